// Cases of the optimiser: the update program of a training job over one parameter, step by step.
import {
  DeviceBuffers,
  layOut,
  type OptimizerSettings,
  Program,
  plan,
  type StateBuffer,
  updateProgram,
} from '#src/engine/index.js';
import type { NativeDevice } from '#src/native/index.js';
import { Checks } from './checks.js';
import { ALONE } from './forward.js';
import { compareSized, OP_LIMIT, type OpRun } from './ops.js';

/** A job whose only parameter has these dims. */
class UpdateBench {
  readonly #buffers: DeviceBuffers;
  readonly #program: Program;
  readonly #length: number;

  constructor(device: NativeDevice, dims: readonly number[], optimizer: OptimizerSettings) {
    const init = { kind: 'zeros' } as const;
    const layout = layOut([{ name: 'parameter', tensor: 0, dims, bucket: 'all', init, isFrozen: false }], 1);
    const planned = plan(updateProgram(layout, ALONE, optimizer));
    this.#buffers = new DeviceBuffers(device);
    this.#buffers.reserve([planned]);
    this.#program = new Program(device, planned, this.#buffers);
    this.#length = dims.reduce((product, dim) => product * dim, 1);
  }

  memory(buffer: 'parameters' | 'gradients' | StateBuffer): Float32Array {
    return this.#buffers.floats(buffer, 0, this.#length);
  }

  /** Steps once with what lies in `gradients`; returns their norm. */
  async step(lr: number, step: number): Promise<number> {
    this.#program.floats('lr')[0] = lr;
    this.#program.floats('step')[0] = step;
    await this.#program.run();
    return this.#program.floats('gradientNorm')[0]!;
  }

  [Symbol.dispose](): void {
    this.#program.dispose();
    this.#buffers.dispose();
  }
}

export async function runOptimizer({ golden, tensors, device }: OpRun): Promise<Checks> {
  const checks = new Checks();
  using bench = new UpdateBench(device, tensors.shape('parameter'), settingsOf(golden));
  bench.memory('parameters').set(await tensors.floats('parameter'));
  const gradients = await tensors.floats('gradients');
  const expected = await tensors.floats('parameter_after_each_step');
  const { length } = bench.memory('parameters');
  for (let step = 0; step < (golden.steps as number); step++) {
    const part = (values: Float32Array) => values.subarray(step * length, (step + 1) * length);
    bench.memory('gradients').set(part(gradients));
    await bench.step(golden.lr as number, step + 1);
    compareSized(checks, `parameter after step ${step}`, bench.memory('parameters'), part(expected));
  }
  for (const name of ['exp_avg', 'exp_avg_sq', 'momentum_buffer'] as const)
    if (tensors.has(name)) compareSized(checks, name, bench.memory(name), await tensors.floats(name));
  return checks;
}

function settingsOf(golden: OpRun['golden']): OptimizerSettings {
  const common = { weightDecay: golden.weight_decay as number, maxGradientNorm: 0 };
  if (golden.optimizer === 'SGD')
    return { kind: 'sgd', ...common, momentum: golden.momentum as number, dampening: 0, isNesterov: false };
  const [beta1, beta2] = golden.betas as readonly [number, number];
  const isDecayDecoupled = golden.optimizer === 'AdamW';
  return { kind: 'adamw', ...common, beta1, beta2, eps: golden.eps as number, isDecayDecoupled };
}

/** The norm over all gradients and their clipping. The factor shows in the first average of Adam with beta1 0. */
export async function runClip({ golden, tensors, device }: OpRun): Promise<Checks> {
  const checks = new Checks();
  const names = tensors.names.filter((name) => name.startsWith('gradient'));
  const parts = await Promise.all(names.map((name) => tensors.floats(name)));
  const gradients = Float32Array.from(parts.flatMap((part) => [...part]));
  const maxGradientNorm = golden.limit as number;
  const optimizer = { kind: 'adamw' as const, beta1: 0, beta2: 0, eps: 1e-8, weightDecay: 0, maxGradientNorm };
  using bench = new UpdateBench(device, [gradients.length], optimizer);
  bench.memory('gradients').set(gradients);
  checks.relative('norm', await bench.step(0, 1), golden.norm as number, OP_LIMIT);
  const clipped = await Promise.all(
    tensors.names.filter((name) => name.startsWith('clipped')).map((name) => tensors.floats(name)),
  );
  compareSized(checks, 'clipped', bench.memory('exp_avg'), Float32Array.from(clipped.flatMap((part) => [...part])));
  return checks;
}
