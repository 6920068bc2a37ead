// Offload moves bytes and changes none: losses, norms, parameters and optimiser state are those of the same job without it, bit by
// bit, for every optimiser, precision and stage; and the device holds what the plan says.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import {
  compileTraining,
  DTYPE_BYTES,
  type FileSettings,
  meshOf,
  type OptimizerOffload,
  type OptimizerSettings,
  type Plan,
  type StepStorage,
} from '#src/engine/index.js';
import { temporaryFolder } from '../head/head-process.js';
import { ALONE, OPTIMIZER, tinyGpt2, tinyLlama } from './models-for-tests.js';
import { type OffloadJob, ROWS, type Trace, trace } from './offloaded-job.js';

const COMMON = { weightDecay: 0.1, maxGradientNorm: 0.5 };
const ADAM = { beta1: 0.9, beta2: 0.95, eps: 1e-8 };
const OPTIMIZERS: readonly OptimizerSettings[] = [
  { kind: 'adamw', ...COMMON, ...ADAM },
  { kind: 'adamw', ...COMMON, ...ADAM, isDecayDecoupled: false },
  { kind: 'lion', ...COMMON, beta1: 0.9, beta2: 0.99 },
  { kind: 'adagrad', ...COMMON, eps: 1e-3, lrDecay: 0.1, initialSum: 0.01 },
  { kind: 'sgd', ...COMMON, momentum: 0.9, dampening: 0, isNesterov: true },
  { kind: 'sgd', ...COMMON, momentum: 0, dampening: 0, isNesterov: false },
  { kind: 'muon', ...COMMON, momentum: 0.95, isNesterov: true, iterations: 5, adam: { ...ADAM, rateRatio: 0.5 } },
];
/** Without momentum SGD has no state to keep in bf16. */
const isPossible = (optimizer: OptimizerSettings, { stateDtype }: StepStorage) =>
  !(optimizer.kind === 'sgd' && optimizer.momentum === 0 && stateDtype === 'bf16');
const STORAGE: readonly ({ readonly dtype: OffloadJob['dtype'] } & StepStorage)[] = [
  { dtype: 'f32' },
  { dtype: 'bf16' },
  { dtype: 'f16' },
  { dtype: 'bf16', stateDtype: 'bf16' },
  { dtype: 'bf16', hasMasters: false },
  { dtype: 'bf16', hasMasters: false, stateDtype: 'bf16' },
];

/** What a trace says of the job, without where it lay. */
const outcome = (traces: readonly Trace[]) =>
  traces.map(({ numbers, parameters, pieces }) => ({ numbers, parameters, pieces }));

const folder = temporaryFolder();
after(() => folder[Symbol.dispose]());
const FILE: FileSettings = {
  folder: join(folder.path, 'made', 'by', 'raylite'),
  blockBytes: 4096,
  queueDepth: 3,
  threads: 1,
  singleSubmit: false,
  overlapEvents: true,
};

const offloads: fc.Arbitrary<OptimizerOffload> = fc.record({
  device: fc.constantFrom('cpu', 'nvme'),
  file: fc.record({
    folder: fc.constant(FILE.folder),
    blockBytes: fc.constantFrom(4096, 2 ** 20),
    queueDepth: fc.constantFrom(1, 3),
    threads: fc.constantFrom(1, 2, 3),
    singleSubmit: fc.boolean(),
    overlapEvents: fc.boolean(),
  }),
  ratio: fc.constantFrom(1, 0.7, 0.3),
  tileElements: fc.constantFrom(64, 1000, 2 ** 20),
  slots: fc.constantFrom(1, 2, 3),
});

const jobs: fc.Arbitrary<OffloadJob> = fc
  .record({
    model: fc.constantFrom(tinyGpt2, tinyLlama),
    zeroStage: fc.constantFrom(1, 2, 3),
    ranks: fc.constantFrom(1, 2, 3, 4),
    micros: fc.constantFrom(1, 2),
    optimizer: fc.constantFrom(...OPTIMIZERS),
    storage: fc.constantFrom(...STORAGE),
    overflowAt: fc.constantFrom(null, 2),
    threads: fc.constantFrom(1, 2),
  })
  .filter(({ optimizer, storage }) => isPossible(optimizer, storage))
  .map(({ storage, overflowAt, ...job }) => {
    const isScaled = storage.dtype === 'f16';
    return { ...job, ...storage, steps: 3, overflowAt: isScaled ? overflowAt : null } as OffloadJob;
  });

test('a job with offloaded optimizer is the job without, bit by bit, on one to four ranks', async () => {
  await fc.assert(
    fc.asyncProperty(jobs, offloads, async (job, optimizer) => {
      const [found, expected] = [await trace(job, { optimizer }), await trace(job, {})];
      assert.deepEqual(outcome(found), outcome(expected));
      for (const { memory, planned } of found) {
        assert.equal(memory.hostBytes, planned.hostBytes);
        assert.ok(memory.deviceBytes <= planned.deviceBytes * 1.03, `${memory.deviceBytes} of ${planned.deviceBytes}`);
        assert.ok(memory.deviceBytes >= planned.deviceBytes * 0.97, `${memory.deviceBytes} of ${planned.deviceBytes}`);
      }
    }),
    { numRuns: 25 },
  );
});

test('every optimizer and precision steps on the host as on the device', async () => {
  for (const optimizer of OPTIMIZERS)
    for (const storage of STORAGE) {
      if (!isPossible(optimizer, storage)) continue;
      const job = {
        model: tinyLlama,
        zeroStage: 2,
        ranks: 2,
        micros: 2,
        optimizer,
        steps: 2,
        overflowAt: null,
      } as const;
      const expected = outcome(await trace({ ...job, ...storage }, {}));
      for (const device of ['cpu', 'nvme'] as const) {
        const moved = { optimizer: { device, tileElements: 256, file: FILE } };
        const found = await trace({ ...job, ...storage }, moved);
        assert.deepEqual(outcome(found), expected, `${device} ${optimizer.kind} ${JSON.stringify(storage)}`);
      }
    }
});

test('parameters on the host, with the optimizer on the device, on the host or on disk, change no bit', async () => {
  for (const ranks of [1, 2, 3])
    for (const storage of STORAGE) {
      const optimizer = OPTIMIZERS[ranks]!;
      const job = { model: tinyLlama, zeroStage: 3, ranks, micros: 2, optimizer, steps: 2, overflowAt: null } as const;
      const expected = await trace({ ...job, ...storage }, {});
      for (const device of [null, 'cpu', 'nvme'] as const) {
        const moved = device && { device, tileElements: 256, file: FILE };
        const found = await trace({ ...job, ...storage, hasParametersOnHost: true }, { optimizer: moved });
        assert.deepEqual(outcome(found), outcome(expected), `${ranks} ${device} ${JSON.stringify(storage)}`);
        for (const [rank, { memory, planned }] of found.entries()) {
          assert.equal(memory.hostBytes, planned.hostBytes);
          assert.ok(Math.abs(memory.deviceBytes / planned.deviceBytes - 1) < 0.03);
          // One rank alone has all parameters in any case: on the host they are not on the device.
          if (ranks > 1) assert.ok(memory.deviceBytes < expected[rank]!.memory.deviceBytes);
        }
      }
    }
});

test('offload goes with tensor, sequence and pipeline parallelism', async () => {
  const cases = [
    [{ tensor: 2, data: 2 }, 2],
    [{ tensor: 2, data: 2 }, 3],
    [{ sequence: 2, data: 2 }, 3],
    [{ pipeline: 2, data: 2 }, 1],
    [{ tensor: 2, pipeline: 2 }, 1],
  ] as const;
  for (const [axes, zeroStage] of cases)
    for (const dtype of ['f32', 'bf16'] as const) {
      const mesh = meshOf(axes);
      const optimizer = OPTIMIZERS[0]!;
      const job = {
        model: tinyLlama,
        zeroStage,
        ranks: 4,
        mesh,
        micros: 2,
        optimizer,
        dtype,
        steps: 2,
        overflowAt: null,
      };
      const expected = outcome(await trace(job, {}));
      for (const device of ['cpu', 'nvme'] as const) {
        const moved = { optimizer: { device, tileElements: 128, ratio: 0.8, file: FILE } };
        const found = await trace({ ...job, hasParametersOnHost: zeroStage === 3 }, moved);
        assert.deepEqual(outcome(found), expected, `${device} ${JSON.stringify(axes)} ${dtype}`);
      }
    }
});

const compiled = (optimizer: OptimizerOffload, model = tinyLlama()) =>
  compileTraining({ model, rows: ROWS, strategy: ALONE, optimizer: OPTIMIZER, dtype: 'bf16', offload: { optimizer } });

test('copies alone touch device and host', () => {
  const { micro, update } = compiled({ device: 'cpu', ratio: 0.5, tileElements: 256 });
  const sides = (plan: Plan, ids: readonly number[]) =>
    new Set(ids.map((id) => plan.buffers.find(({ name }) => name === plan.places.get(id)!.buffer)!.isOnHost));
  let copies = 0;
  for (const plan of [micro, update])
    for (const { kind, inputs, outputs } of plan.graph.ops) {
      const isBoth = sides(plan, [...inputs, ...outputs]).size === 2;
      assert.equal(isBoth, kind === 'copy', kind);
      if (isBoth) copies++;
    }
  assert.ok(copies > 4);
});

test('a piece is stepped while the next one comes and the last one goes', () => {
  const { update } = compiled({ device: 'cpu', tileElements: 256 });
  const { ops } = update.graph;
  const steps = ops.flatMap(({ kind }, index) => (kind === 'adamw' ? [index] : []));
  assert.ok(steps.length > 4);
  for (const [number, step] of steps.entries()) {
    const next = steps[number + 1];
    if (next === undefined) continue;
    const copies = ops.flatMap(({ kind }, index) => (kind === 'copy' && index > step && index < next ? [index] : []));
    // The first of them brings the next gradient: it may run while this piece is stepped.
    assert.equal(update.schedule.isBefore(step, copies[0]!), false);
    assert.equal(update.schedule.isBefore(step, copies.at(-1)!), true);
  }
});

test('what is planned for device and host adds up to what the job needs, by the share that is offloaded', () => {
  const settings = { model: tinyGpt2(), rows: ROWS, strategy: ALONE, optimizer: OPTIMIZER, dtype: 'bf16' } as const;
  const plain = compileTraining(settings);
  const owned = 3 * DTYPE_BYTES.f32 * plain.layout.sliceElements;
  assert.equal(plain.memory.hostBytes, 0);
  for (const ratio of [1, 0.6, 0.2]) {
    const offload = { optimizer: { device: 'cpu', ratio, tileElements: 256 } } as const;
    const { memory, update } = compileTraining({ ...settings, offload });
    const size = (name: string) => update.buffers.find((buffer) => buffer.name === name)?.bytes ?? 0;
    const staged = size('staging') + size('update_scalars@host');
    const scalars = size('update_scalars') - plain.update.buffers.find(({ name }) => name === 'update_scalars')!.bytes;
    assert.ok(size('staging') <= 2 * (6 * 256 + 4096));
    assert.equal(memory.hostBytes - staged + memory.optimizerBytes, owned);
    const arenas = (plan: Plan) => plan.arena.peakBytes;
    assert.ok(scalars <= 64 && arenas(update) <= arenas(plain.update));
    assert.equal(plain.memory.totalBytes - memory.totalBytes + scalars, memory.hostBytes - staged);
    const share = (memory.hostBytes - staged) / owned;
    assert.ok(ratio === 1 ? share === 1 : Math.abs(share - ratio) < 0.35, `${share} of ${ratio}`);
  }
});
