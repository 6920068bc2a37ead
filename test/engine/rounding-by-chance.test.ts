// Parameters and state in bf16 alone: rounding that keeps the mean, training that follows f32, the same bits for any number of
// ranks at any stage, and behind a checkpoint.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import {
  compileTraining,
  DeviceBuffers,
  layOut,
  meshOf,
  narrow,
  type OptimizerSettings,
  Program,
  plan,
  type StepStorage,
  type Strategy,
  TrainStep,
  updateProgram,
  widen,
} from '#src/engine/index.js';
import { initialise } from '#src/models/index.js';
import { type NativeCommunicator, native } from '#src/native/index.js';
import { DEVICES, type DeviceUnderTest } from '../support/devices.js';
import { openDevice } from './device-for-tests.js';
import { ALONE, labelled, OPTIMIZER, randomBatch, tinyLlama } from './models-for-tests.js';

const ROWS = 32;
const VOCABULARY = 37;
const BARE: StepStorage = { hasMasters: false, stateDtype: 'bf16' };
const COMMON = { weightDecay: 0.01, maxGradientNorm: 0 };
const CASES: readonly (readonly [OptimizerSettings, lr: number])[] = [
  [{ ...OPTIMIZER, maxGradientNorm: 0, eps: 1e-4 }, 5e-3],
  [{ kind: 'lion', ...COMMON, beta1: 0.9, beta2: 0.99 }, 1e-3],
  [{ kind: 'adagrad', ...COMMON, eps: 1e-6, lrDecay: 0, initialSum: 0 }, 2e-2],
  [{ kind: 'sgd', ...COMMON, momentum: 0.9, dampening: 0, isNesterov: true }, 5e-2],
  [
    {
      kind: 'muon',
      ...COMMON,
      momentum: 0.95,
      isNesterov: true,
      iterations: 5,
      adam: { beta1: 0.9, beta2: 0.95, eps: 1e-4, rateRatio: 0.5 },
    },
    1e-2,
  ],
];

const bitsOf = (values: Float32Array) => narrow(values, 'bf16');

/** One step of SGD by `change` from bf16 parameters that are all `start`. */
async function stepped(where: DeviceUnderTest, start: number, change: number, seed: number, step = 1) {
  const device = where.open();
  try {
    const length = 20_000;
    const parameter = { name: 'p', tensor: 0, dims: [length], bucket: 'all', isFrozen: false } as const;
    const layout = layOut([{ ...parameter, init: { kind: 'zeros' } }], 1, { ...BARE, dtype: 'bf16' });
    const sgd = { kind: 'sgd', ...COMMON, momentum: 0, dampening: 0, isNesterov: false } as const;
    const planned = plan(updateProgram(layout, ALONE, sgd));
    const buffers = new DeviceBuffers(device);
    buffers.reserve([planned]);
    const program = new Program(device, planned, buffers);
    buffers.halves('parameters', 0, length).set(bitsOf(new Float32Array(length).fill(start)));
    buffers.floats('gradients', 0, length).fill(-change);
    program.setScalar('lr', 1);
    program.setScalar('step', step);
    program.integers('random').set([seed, 0, step]);
    await program.run();
    const values = widen(new Uint8Array(buffers.halves('parameters', 0, length).slice().buffer), 'bf16');
    program.dispose();
    buffers.dispose();
    return values;
  } finally {
    device.dispose();
  }
}

test('a change below a rounding step moves as many elements as keep the mean, the same on every instruction set', async () => {
  const unit = 2 ** -7; // between bf16 numbers from 1 on
  for (const [start, change] of [
    [1, 0.3 * unit],
    [-1.5, 0.01 * unit],
    [1.25, -0.75 * unit],
  ] as const) {
    const values = await stepped(DEVICES[0]!, start, change, 7);
    const sorted = [...new Set(values)].sort((a, b) => a - b);
    assert.deepEqual(sorted, change > 0 ? [start, start + unit] : [start - unit, start]);
    const mean = values.reduce((sum, value) => sum + (value - start), 0) / values.length;
    const share = Math.abs(change) / unit;
    const deviation = (unit * Math.sqrt(share * (1 - share))) / Math.sqrt(values.length);
    assert.ok(Math.abs(mean - change) < 4 * deviation, `the mean moved by ${mean}, not ${change}`);
    for (const device of DEVICES) assert.deepEqual(await stepped(device, start, change, 7), values);
    assert.notDeepEqual(await stepped(DEVICES[0]!, start, change, 8), values);
    assert.notDeepEqual(await stepped(DEVICES[0]!, start, change, 7, 2), values);
  }
});

test('what is not a number stays so', async () => {
  assert.ok((await stepped(DEVICES[0]!, Number.NaN, 1, 1)).every(Number.isNaN));
});

interface Job {
  readonly optimizer: OptimizerSettings;
  readonly lr: number;
  readonly storage: StepStorage & { readonly dtype: 'f32' | 'bf16' };
  readonly strategy?: Strategy;
  readonly steps?: number;
  /** After so many steps everything is read and written into a new job. */
  readonly restartBehind?: number;
}

/** Losses and final parameters of one rank. Rank 0 alone has labels, so that sums over ranks are exact. */
async function train(job: Job, communicator: NativeCommunicator | null = null) {
  const { optimizer, lr, storage, strategy = ALONE, steps = 8, restartBehind = -1 } = job;
  using opened = openDevice(1);
  const model = tinyLlama();
  const settings = {
    model,
    rows: ROWS,
    strategy,
    optimizer,
    ...storage,
    device: opened.device,
    communicators: { zero: communicator },
  };
  let step = TrainStep.create(settings);
  initialise(model, 5, step.parameters);
  const batch = randomBatch([16, 10], ROWS, VOCABULARY, 'chance');
  const scale = 1 / labelled(batch);
  const mine = strategy.rank === 0 ? batch : { ...batch, labels: new Int32Array(ROWS).fill(-100) };
  const losses: number[] = [];
  const parametersOf = () => step.parameters.parameters.map(({ name }) => [name, step.readParameter(name)] as const);
  for (let n = 1; n <= steps; n++) {
    losses.push((await step.micro(mine, { scale, isFirst: true })).loss);
    await step.update({ lr, step: n });
    if (n !== restartBehind) continue;
    const saved = step.slices.map((slice) => step.stateOf(slice).map((kind) => step.readState(kind, slice)));
    await step[Symbol.asyncDispose]();
    step = TrainStep.create(settings);
    for (const [i, slice] of step.slices.entries())
      for (const [k, kind] of step.stateOf(slice).entries()) step.writeState(kind, slice, saved[i]![k]!);
  }
  const parameters = new Map(parametersOf());
  await step[Symbol.asyncDispose]();
  return { losses, parameters };
}

for (const [optimizer, lr] of CASES) {
  const job: Job = { optimizer, lr, storage: { dtype: 'bf16', ...BARE } };

  test(`${optimizer.kind}: training without masters and with bf16 state follows f32`, async () => {
    const { losses: exact } = await train({ ...job, storage: { dtype: 'f32' }, steps: 15 });
    assert.ok(exact.at(-1)! < exact[0]! - 0.2, `${exact[0]} to ${exact.at(-1)}`);
    for (const storage of [BARE, { hasMasters: false }, { stateDtype: 'bf16' }] as const) {
      const { losses } = await train({ ...job, storage: { dtype: 'bf16', ...storage }, steps: 15 });
      const worst = Math.max(...losses.map((loss, i) => Math.abs(loss - exact[i]!)));
      assert.ok(worst < 0.1, `${JSON.stringify(storage)} is off by ${worst}`);
    }
  });

  test(`${optimizer.kind}: a run that goes on from its state has the bits of one that was not interrupted`, async () => {
    assert.deepEqual(await train({ ...job, restartBehind: 3 }), await train(job));
  });

  test(`${optimizer.kind}: any number of ranks at any stage rounds alike, bit by bit`, async () => {
    const alone = await train(job);
    for (const [zeroStage, worldSize] of [
      [0, 2],
      [1, 2],
      [2, 2],
      [1, 4],
    ] as const) {
      const name = `rlt-${randomUUID()}`;
      const join = (rank: number) => native().joinShmGroup({ name, rank, size: worldSize, timeoutMs: 60_000 });
      const group = await Promise.all(Array.from({ length: worldSize }, (_, rank) => join(rank)));
      const ranks = await Promise.all(
        group.map((communicator, rank) =>
          train({ ...job, strategy: { zeroStage, mesh: meshOf({ data: worldSize }), rank } }, communicator),
        ),
      );
      for (const communicator of group) communicator.dispose();
      assert.deepEqual(ranks[0]!.losses, alone.losses);
      for (const { parameters } of ranks) assert.deepEqual(parameters, alone.parameters);
    }
  });
}

test('planned bytes: two for each parameter and each number of state, none for masters', () => {
  for (const worldSize of [1, 2]) {
    const strategy = { zeroStage: 1, mesh: meshOf({ data: worldSize }), rank: 0 } as const;
    const common = { model: tinyLlama(), rows: ROWS, strategy, optimizer: OPTIMIZER, dtype: 'bf16' } as const;
    const bytes = (storage: StepStorage) => {
      const { memory, layout } = compileTraining({ ...common, ...storage });
      assert.equal(memory.parameterBytes, 2 * layout.elements);
      return memory.optimizerBytes / layout.sliceElements;
    };
    assert.equal(bytes({}), 12);
    assert.equal(bytes({ stateDtype: 'bf16' }), 8);
    assert.equal(bytes({ hasMasters: false }), 8);
    assert.equal(bytes(BARE), 4);
  }
});

test('only bf16 is rounded by chance', () => {
  const common = { model: tinyLlama(), rows: ROWS, strategy: ALONE, optimizer: OPTIMIZER } as const;
  assert.throws(() => compileTraining({ ...common, dtype: 'f16', hasMasters: false }), /hasMasters: expected true/);
  assert.throws(() => compileTraining({ ...common, stateDtype: 'bf16' }), /stateDtype: expected "f32"/);
});
