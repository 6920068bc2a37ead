// Scenes of single ops of the native engine, at the shapes of GPT-2 124M (4 x 256 tokens), beside what the machine can do:
// products against its multiply-adds, the rest against a copy of memory. There is no peer.
import { availableParallelism } from 'node:os';
import { native } from '#src/native/index.js';
import { type LoadedPlan, PlanWriter, type TensorHandle } from '../../test/support/native-plan.js';
import type { Figure, Scene } from '../harness/figure.js';
import { multiplyPeak } from '../limits/index.js';
import type { OpFigure, Precision } from './op-figure.js';
import { optimizerFigures } from './ops-optimizers.js';
import { productFigures } from './ops-products.js';
import { rowFigures } from './ops-rows.js';

const GOAL_SHARE = 0.85;
const COPIED = 38_597_376;

export function opScenes(): readonly Scene[] {
  const threads = availableParallelism();
  return (['fp32', 'bf16'] as const).flatMap((precision) =>
    [...productFigures(precision), ...rowFigures(precision), ...optimizerFigures(precision)].map((op): Scene => {
      const name = `${op.name}, ${precision}, ${threads} threads`;
      return { names: [name], open: async () => openOp(name, op, precision, threads) };
    }),
  );
}

async function openOp(name: string, op: OpFigure, precision: Precision, threads: number) {
  const device = native().createDevice({ threads, isa: null, pin: false });
  const plan = new PlanWriter();
  const inputs: TensorHandle[] = [];
  op.build(plan, (dims, dtype) => {
    const tensor = plan.tensor(dims, null, dtype === 'stored' && precision === 'bf16' ? 'bf16' : 'f32');
    inputs.push(tensor);
    return tensor;
  });
  const loaded = plan.load(device);
  for (const tensor of inputs) fill(loaded, tensor);
  const copy = new PlanWriter();
  if (op.unit === 'GB/s') copy.op('copy', [copy.tensor([COPIED])], [copy.tensor([COPIED])]);
  const copied = copy.load(device);
  const figure: Figure = {
    name,
    unit: op.unit,
    isMoreBetter: true,
    goal: { share: GOAL_SHARE },
    warmUps: 2,
    rounds: 9,
    ours: async () => ({ value: op.work / (await secondsOf(loaded)) / 1e9 }),
    peer: null,
    limit:
      op.unit === 'GB/s'
        ? { name: 'copy of memory', measure: () => copyBandwidth(copied) }
        : { name: `${precision} multiply-add peak`, measure: () => multiplyPeak(precision, threads) },
  };
  return {
    figures: [figure],
    peerName: '',
    [Symbol.asyncDispose]: async () => device.dispose(),
  };
}

async function secondsOf(loaded: LoadedPlan): Promise<number> {
  return (await loaded.program.profile())[0]!;
}

/** Bytes read and written; the first copies touch the pages. */
async function copyBandwidth(copied: LoadedPlan): Promise<number> {
  const seconds: number[] = [];
  for (let round = 0; round < 5; round += 1) seconds.push(await secondsOf(copied));
  return (8 * COPIED) / Math.min(...seconds) / 1e9;
}

/** A period of small numbers over and over: ordinary values, no subnormals. */
function fill(loaded: LoadedPlan, tensor: TensorHandle): void {
  const view = loaded.view(tensor);
  const period = Float32Array.from({ length: 4093 }, (_, i) => Math.sin(i) * 0.1);
  const upperHalves = Uint16Array.from(new Uint32Array(period.buffer), (bits) => bits >>> 16);
  const values = tensor.dtype === 'bf16' ? upperHalves : period;
  for (let at = 0; at < view.length; at += values.length) {
    view.set(values.subarray(0, Math.min(values.length, view.length - at)), at);
  }
}
