// Scenes of single ops of the native engine, at the shapes of GPT-2 124M (4 x 256 tokens), beside what the machine can do:
// products against its multiply-adds, the rest against bare loops that read and write as many tensors of memory. There is no peer.
import { availableParallelism } from 'node:os';
import { native } from '#src/native/index.js';
import { type LoadedPlan, PlanWriter, type TensorHandle } from '../../test/support/native-plan.js';
import type { Figure, Scene } from '../harness/figure.js';
import { multiplyPeak, streamBandwidth } from '../limits/index.js';
import type { OpFigure, Precision } from './op-figure.js';
import { optimizerFigures } from './ops-optimizers.js';
import { productFigures } from './ops-products.js';
import { rowFigures } from './ops-rows.js';

const GOAL_SHARE = 0.85;

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
  const figure: Figure = {
    name,
    unit: op.unit,
    isMoreBetter: true,
    goal: { share: GOAL_SHARE },
    warmUps: 2,
    rounds: 9,
    ours: async () => ({ value: op.work / (await secondsOf(loaded)) / 1e9 }),
    peer: null,
    limit: limitOf(op, precision, threads),
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

function limitOf(op: OpFigure, precision: Precision, threads: number): Figure['limit'] {
  if (op.unit === 'GFLOP/s') {
    return { name: `${precision} multiply-add peak`, measure: () => multiplyPeak(precision, threads) };
  }
  const { reads, writes, inPlace } = op.streams;
  const written = writes === 0 ? '' : `, ${writes} written${inPlace ? ' in place' : ''}`;
  return { name: `${reads} read${written}, bare`, measure: () => streamBandwidth(threads, op.streams) };
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
