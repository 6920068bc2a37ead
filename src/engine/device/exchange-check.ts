// Whether exchanges in few bits, or of secondary slices (ZeRO++), leave a step what it is: the same micro-batch once more with
// plain exchanges, from the same parameters.
import type { NativeDevice } from '../../native/index.js';
import type { TrainingSettings } from '../compile/settings.js';
import { compileTraining } from '../compile/training.js';
import type { Strategy } from '../passes/zero.js';
import { DeviceBuffers } from './buffers.js';
import { type Communicators, communicatorTable } from './communicators.js';
import type { ParameterStore } from './parameter-store.js';
import { Program } from './program.js';

/** What ZeRO++ changes of one micro-batch. */
export interface ExchangeDifference {
  /** Of this rank's micro-batch. */
  readonly loss: number;
  readonly plainLoss: number;
  /** |g - plain| / |plain| over this rank's slices of the gradients. */
  readonly gradientError: number;
}

/** The strategy with every exchange as it is. Null: it has no other. */
export function withPlainExchanges(strategy: Strategy): Strategy | null {
  const { mesh, tuning = {} } = strategy;
  const { quantizedWeights, quantizedNontrainableWeights, quantizedGradients } = tuning;
  const isQuantised = quantizedWeights || quantizedNontrainableWeights || quantizedGradients;
  if (strategy.zeroStage < 2 || (!isQuantised && mesh.zeroInner === 1)) return null;
  const plain = { quantizedWeights: false, quantizedNontrainableWeights: false, quantizedGradients: false };
  return { ...strategy, mesh: { ...mesh, zeroInner: 1 }, tuning: { ...tuning, ...plain } };
}

interface PlainJob {
  readonly settings: TrainingSettings;
  readonly device: NativeDevice;
  readonly store: ParameterStore;
  readonly communicators: Communicators;
  /** Writes the micro-batch. */
  readonly write: (program: Program) => void;
}

/** Loss and slices of gradients of one micro-batch, in memory of its own beside the parameters of `store`. */
export async function runPlain({ settings, device, store, communicators, write }: PlainJob) {
  const { clear, micro, layout } = compileTraining({ ...settings, offload: {} });
  const buffers = new DeviceBuffers(device);
  const programs: Program[] = [];
  try {
    store.lendTo(buffers);
    buffers.reserve([...(clear ? [clear] : []), micro]);
    const load = (plan: typeof micro) => {
      const program = new Program(device, plan, buffers, communicatorTable(communicators));
      programs.push(program);
      return program;
    };
    if (clear) await load(clear).run();
    const program = load(micro);
    write(program);
    await program.run();
    const gradients = buffers.floats('gradients', 0, layout.sliceElements).slice();
    return { loss: program.floats('loss')[0]!, gradients };
  } finally {
    for (const program of programs) program.dispose();
    buffers.dispose();
  }
}

/** |a - b| / |b|. */
export function relativeError(a: Float32Array, b: Float32Array): number {
  let [difference, size] = [0, 0];
  for (const [i, value] of b.entries()) {
    difference += (a[i]! - value) ** 2;
    size += value ** 2;
  }
  return Math.sqrt(difference / size);
}
