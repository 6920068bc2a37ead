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
  type Offload,
  type OptimizerOffload,
  type OptimizerSettings,
  PARAMETERS_ON_HOST,
  type ParameterOffload,
  type Plan,
  type StepStorage,
  type ZeroStage,
} from '#src/engine/index.js';
import { modelFromConfig } from '#src/models/index.js';
import { temporaryFolder } from '../support/temporary-folder.js';
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

/** Where slices of parameters may be: in memory, in a file, in both. Buffers of one page: most slices take several. */
const HOMES: Readonly<Record<string, ParameterOffload>> = {
  host: PARAMETERS_ON_HOST,
  disk: { hostElementsMax: 0, buffers: 3, bufferElements: 1, file: FILE },
  both: { hostElementsMax: 3000, buffers: 1, bufferElements: 3000, file: FILE },
};

/** Blocks of a few pages. */
const WIDE = {
  model_type: 'llama',
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 40,
  vocab_size: 37,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-6,
};
const wideLlama = () => modelFromConfig(WIDE);

for (const [home, offloadParam] of Object.entries(HOMES))
  test(`parameters off the device (${home}), wherever the optimizer is, change no bit`, async () => {
    for (const ranks of [1, 2, 3])
      for (const storage of STORAGE) {
        const optimizer = OPTIMIZERS[ranks]!;
        const job = {
          model: wideLlama,
          zeroStage: 3,
          ranks,
          micros: 2,
          optimizer,
          steps: 2,
          overflowAt: null,
        } as const;
        const expected = await trace({ ...job, ...storage }, {});
        for (const device of [null, 'cpu', 'nvme'] as const) {
          const moved = device && { device, tileElements: 500, file: FILE };
          const found = await trace({ ...job, ...storage, offloadParam }, { optimizer: moved });
          assert.deepEqual(outcome(found), outcome(expected), `${ranks} ${device} ${JSON.stringify(storage)}`);
          for (const [rank, { memory, planned }] of found.entries()) {
            assert.equal(memory.hostBytes, planned.hostBytes);
            assert.ok(Math.abs(memory.deviceBytes / planned.deviceBytes - 1) < 0.03);
            assert.equal(planned.diskBytes > 0, home !== 'host' || device === 'nvme');
            // One rank alone has all parameters in any case: elsewhere they are not on the device.
            if (ranks > 1) assert.ok(memory.deviceBytes < expected[rank]!.memory.deviceBytes);
          }
        }
      }
  });

test('whole matrices of parameters that lie in a file are stepped as in memory, whatever pages they share', async () => {
  const optimizer = OPTIMIZERS.find(({ kind }) => kind === 'muon')!;
  for (const storage of STORAGE)
    for (const device of [null, 'nvme'] as const) {
      const job = {
        model: wideLlama,
        zeroStage: 3,
        ranks: 2,
        micros: 1,
        optimizer,
        steps: 2,
        overflowAt: null,
      } as const;
      const expected = outcome(await trace({ ...job, ...storage }, {}));
      const moved = device && { device, tileElements: 96, file: FILE };
      const found = await trace({ ...job, ...storage, offloadParam: HOMES.disk! }, { optimizer: moved });
      assert.deepEqual(outcome(found), expected, `${device} ${JSON.stringify(storage)}`);
    }
});

test('gradients wait for the update on the host or on disk, for one rank and for several; the device has some buckets', () => {
  // Enough blocks for what lives at once to be little.
  const model = () => modelFromConfig({ ...WIDE, num_hidden_layers: 12 });
  for (const ranks of [1, 2])
    for (const zeroStage of [2, 3] as const) {
      const strategy = { zeroStage, mesh: meshOf({ data: ranks }), rank: 0, tuning: { maxReuseDistance: 0 } } as const;
      const compile = (offload: Offload) =>
        compileTraining({ model: model(), rows: ROWS, strategy, optimizer: OPTIMIZER, recompute: 'full', offload });
      const plain = compile({});
      const gradientBytes = DTYPE_BYTES.f32 * plain.layout.sliceElements;
      assert.equal(plain.memory.gradientBytes, gradientBytes);
      const largest = DTYPE_BYTES.f32 * Math.max(...plain.layout.buckets.map(({ elements }) => elements));
      for (const device of ['cpu', 'nvme'] as const) {
        const { memory, micro, update } = compile({ optimizer: { device, tileElements: 512, file: FILE } });
        assert.equal(memory.gradientBytes, 0);
        const grown = memory.activationBytes - plain.memory.activationBytes;
        assert.ok(grown < (ranks === 1 ? 3 * largest : largest), `${grown} bytes for buckets of ${largest}`);
        assert.ok(memory.totalBytes < plain.memory.totalBytes - plain.memory.optimizerBytes - 0.5 * gradientBytes);
        const names = new Set([micro, update].flatMap(({ buffers }) => buffers.map(({ name }) => name)));
        assert.equal(names.has('gradients@host'), device === 'cpu');
        if (device === 'nvme') assert.ok(memory.diskBytes >= plain.memory.optimizerBytes + gradientBytes);
        else assert.ok(memory.hostBytes >= plain.memory.optimizerBytes + gradientBytes);
      }
    }
});

test('the gradients of a bucket come from the host while the one before is written, and go behind its last write', () => {
  const { micro } = compiled({ device: 'cpu' }, wideLlama(), 2);
  const { ops } = micro.graph;
  const copies = ops.flatMap((op, index) => (op.kind === 'copy' ? [index] : []));
  const isOut = (index: number) => micro.places.get(ops[index]!.outputs[0]!)!.buffer === 'gradients@host';
  const [ins, outs] = [copies.filter((index) => !isOut(index)), copies.filter(isOut)];
  assert.ok(ins.length >= 4);
  assert.equal(ins.length, outs.length);
  const { streams, isBefore } = micro.schedule;
  const computed = ops.flatMap((_, index) => (streams[index] === 0 ? [index] : []));
  for (const index of ins.slice(1)) {
    const next = computed.find((op) => op > index)!;
    assert.equal(isBefore(index, next), false, 'something is computed meanwhile');
  }
});

test('max_in_cpu moves whole buckets from the file to the host, and buffers bound what is read ahead', () => {
  const settings = (offloadParam: ParameterOffload | null) => {
    const strategy = { zeroStage: 3, mesh: meshOf(), rank: 0, tuning: { offloadParam, maxReuseDistance: 0 } } as const;
    return { model: wideLlama(), rows: ROWS, strategy, optimizer: OPTIMIZER, dtype: 'bf16' } as const;
  };
  const plain = compileTraining(settings(null));
  const [first] = plain.layout.buckets;
  const size = ({ update, micro }: ReturnType<typeof compileTraining>, name: string) =>
    Math.max(...[update, micro].map(({ buffers }) => buffers.find((buffer) => buffer.name === name)?.bytes ?? 0));
  let disk = Number.POSITIVE_INFINITY;
  for (const hostElementsMax of [0, first!.sliceElements, 1e9]) {
    const found = compileTraining(settings({ hostElementsMax, buffers: 2, bufferElements: 2048, file: FILE }));
    const { parameterBytes, diskBytes } = found.memory;
    assert.equal(parameterBytes, 0);
    assert.ok(diskBytes < disk);
    disk = diskBytes;
    const onHost = size(found, 'parameters@host');
    assert.equal(onHost, hostElementsMax === 1e9 ? plain.memory.parameterBytes : 2 * hostElementsMax);
    const pages = found.layout.buckets.length * 4096;
    assert.ok(
      diskBytes >= plain.memory.parameterBytes - onHost && diskBytes < plain.memory.parameterBytes - onHost + pages,
    );
    assert.equal(size(found, 'parameters@file'), hostElementsMax === 1e9 ? 0 : 2 * 4096);
    assert.ok(found.memory.totalBytes < plain.memory.totalBytes);
  }
  assert.equal(disk, 0);
});

test('the file of parameters is read ahead, as far as there are buffers', () => {
  const offloadParam = { hostElementsMax: 0, buffers: 3, bufferElements: 2048, file: FILE };
  const strategy = { zeroStage: 3, mesh: meshOf(), rank: 0, tuning: { offloadParam, maxReuseDistance: 0 } } as const;
  const { micro } = compileTraining({ model: wideLlama(), rows: ROWS, strategy, optimizer: OPTIMIZER, dtype: 'bf16' });
  const { ops } = micro.graph;
  const of = (kind: string) => ops.flatMap((op, index) => (op.kind === kind ? [index] : []));
  const [reads, copies] = [of('disk_read'), of('copy')];
  assert.ok(reads.length > 8);
  assert.equal(reads.length, copies.length);
  for (const [number, read] of reads.entries()) {
    // The one before has not been taken when this one is read; the one whose buffer it takes has.
    if (number >= 1) assert.equal(micro.schedule.isBefore(copies[number - 1]!, read), false);
    if (number >= 3) assert.equal(micro.schedule.isBefore(copies[number - 3]!, read), true);
    assert.equal(micro.schedule.isBefore(read, copies[number]!), true);
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
        const found = await trace({ ...job, offloadParam: zeroStage === 3 ? HOMES.both! : null }, moved);
        assert.deepEqual(outcome(found), expected, `${device} ${JSON.stringify(axes)} ${dtype}`);
      }
    }
});

function compiled(optimizer: OptimizerOffload, model = tinyLlama(), zeroStage: ZeroStage = 0) {
  const strategy = { ...ALONE, zeroStage };
  return compileTraining({ model, rows: ROWS, strategy, optimizer: OPTIMIZER, dtype: 'bf16', offload: { optimizer } });
}

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
