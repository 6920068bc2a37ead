// ZeRO++ on four ranks of two "machines": hpZ gives the bits of plain stage 3, qwZ and qgZ stay close to it and learn as well, and
// the bytes that cross machines are a quarter: 3M → 0.75M.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import {
  type Communicators,
  compileTraining,
  type ExchangeDifference,
  type FloatType,
  groupOf,
  jointsOf,
  meshOf,
  PARAMETERS_ON_HOST,
  type Recompute,
  type Strategy,
  TrainStep,
  ZERO_TUNING,
  type ZeroTuning,
} from '#src/engine/index.js';
import { adapterFromConfig, initialise, type Model, modelFromConfig, withAdapter } from '#src/models/index.js';
import { type NativeCommunicator, native } from '#src/native/index.js';
import { expectNear } from '#src/train/check-exchanges.js';
import { openDevice } from './device-for-tests.js';
import { labelled, OPTIMIZER, randomBatch, tinyGpt2, tinyLlama } from './models-for-tests.js';

const ROWS = 16;
const VOCABULARY = 37;
const TIGHT: Partial<ZeroTuning> = { paramPersistenceThreshold: 0, maxReuseDistance: 0 };

interface Job {
  readonly model?: () => Model;
  readonly worldSize?: number;
  readonly zeroInner: number;
  readonly zeroStage?: 2 | 3;
  readonly tuning?: Partial<ZeroTuning>;
  readonly steps?: number;
  readonly dtype?: FloatType;
  readonly recompute?: Recompute;
  readonly compares?: boolean;
}

interface Outcome {
  readonly difference: ExchangeDifference | null;
  readonly losses: readonly number[];
  readonly norms: readonly number[];
  readonly parameters: readonly Float32Array[];
  /** Bytes that the last micro-batch sent, by the first name of their group. */
  readonly sent: Readonly<Record<string, number>>;
}

async function run(job: Job): Promise<readonly Outcome[]> {
  const { worldSize = 4, zeroInner } = job;
  const mesh = meshOf({ data: worldSize, zeroInner });
  const name = `rlt-${randomUUID()}`;
  const joined = await Promise.all(
    Array.from({ length: worldSize }, (_, rank) =>
      Promise.all(
        jointsOf(mesh, rank).map(async ({ names, ranks, index, size }) => {
          const group = `${name}-${names[0]}-${ranks[0]}`;
          const options = { name: group, rank: index, size, timeoutMs: 60_000 };
          return { names, communicator: await native().joinShmGroup(options) };
        }),
      ),
    ),
  );
  try {
    return await Promise.all(joined.map((joints, rank) => runRank(job, { mesh, rank, zeroStage: 3 }, joints)));
  } finally {
    for (const { communicator } of joined.flat()) communicator.dispose();
  }
}

async function runRank(
  job: Job,
  base: Strategy,
  joints: readonly { readonly names: readonly string[]; readonly communicator: NativeCommunicator }[],
): Promise<Outcome> {
  using opened = openDevice(1);
  const { zeroStage = 3, tuning = {}, steps = 3, dtype = 'f32', recompute = 'none' } = job;
  const model = (job.model ?? tinyLlama)();
  const communicators: Communicators = Object.fromEntries(
    joints.flatMap(({ names, communicator }) => names.map((name) => [name, communicator])),
  );
  const strategy = { ...base, zeroStage, tuning: { ...TIGHT, ...tuning } };
  const optimizer = { ...OPTIMIZER, eps: 1e-2 };
  const settings = { model, rows: ROWS, strategy, optimizer, dtype, recompute, device: opened.device, communicators };
  await using step = TrainStep.create(settings);
  initialise(model, 3, step.parameters);
  const first = randomBatch([7, 5], ROWS, VOCABULARY, `1/${strategy.rank}`);
  const difference = job.compares ? await step.compareExchanges(first, { scale: 1 / (4 * labelled(first)) }) : null;
  const [losses, norms]: [number[], number[]] = [[], []];
  const sent: Record<string, number> = {};
  for (let number = 1; number <= steps; number++) {
    const batch = randomBatch([7, 5], ROWS, VOCABULARY, `${number % 4}/${strategy.rank}`);
    const before = joints.map(({ communicator }) => communicator.bytesSent);
    const { loss } = await step.micro(batch, { scale: 1 / (4 * labelled(batch)), isFirst: true });
    for (const [index, { names, communicator }] of joints.entries())
      sent[names[0]!] = communicator.bytesSent - before[index]!;
    losses.push(loss);
    norms.push((await step.update({ lr: 1e-2, step: number })).gradientNorm);
  }
  const parameters: Float32Array[] = [];
  for (const { name } of step.parameters.parameters) parameters.push(await step.gatherParameter(name));
  return { losses, norms, parameters, sent, difference };
}

const lossesOf = (outcomes: readonly Outcome[]) =>
  outcomes[0]!.losses.map((_, step) => outcomes.reduce((sum, { losses }) => sum + losses[step]!, 0));

test('hpZ: the second gather stays inside a machine and gives the bits of plain stage 3', async () => {
  const config = { r: 2, lora_alpha: 6, target_modules: ['q_proj', 'v_proj'] };
  for (const model of [tinyGpt2, tinyLlama, () => withAdapter(tinyLlama(), adapterFromConfig(config))])
    for (const dtype of ['f32', 'bf16'] as const)
      for (const recompute of ['none', 'full'] as const) {
        const job = { model, dtype, recompute } as const;
        const [plain, near] = [await run({ ...job, zeroInner: 1 }), await run({ ...job, zeroInner: 2 })];
        const bits = (all: readonly Outcome[]) =>
          all.map(({ losses, norms, parameters }) => ({ losses, norms, parameters }));
        assert.deepEqual(bits(near), bits(plain));
        assert.ok(near[0]!.sent.zeroInner! > 0 && near[0]!.sent.zero! < plain[0]!.sent.zero!);
      }
});

test('in 8-bit weights and 4-bit gradients the first loss is near, the gradient too, and the model learns as well', async () => {
  for (const zeroInner of [1, 2, 4])
    for (const keys of [
      { quantizedWeights: true },
      { quantizedGradients: true },
      { quantizedWeights: true, quantizedGradients: true },
    ]) {
      const steps = 40;
      const [plain, plus] = [await run({ zeroInner: 1, steps }), await run({ zeroInner, tuning: keys, steps })];
      const [expected, found] = [lossesOf(plain), lossesOf(plus)];
      const first = Math.abs(found[0]! - expected[0]!) / expected[0]!;
      // Gradients in 4 bits do not touch the first loss.
      assert.ok(keys.quantizedWeights ? first > 0 && first < 5e-3 : first === 0, `first loss is off by ${first}`);
      const norm = Math.abs(plus[0]!.norms[0]! / plain[0]!.norms[0]! - 1);
      assert.ok(norm > 0 && norm < 0.1, `first norm is off by ${norm}`);
      assert.ok(found.at(-1)! < 0.7 * found[0]!, `${found[0]} became ${found.at(-1)}`);
      assert.ok(
        Math.abs(found.at(-1)! - expected.at(-1)!) < 0.05 * expected[0]!,
        `${found.at(-1)}, ${expected.at(-1)}`,
      );
      for (const { parameters } of plus) assert.deepEqual(parameters, plus[0]!.parameters); // all ranks agree
    }
});

test('compared with plain exchanges, the first micro-batch is the same under hpZ and near in few bits', async () => {
  const differences = async (zeroInner: number, tuning: Partial<ZeroTuning>) =>
    (await run({ zeroInner, tuning, steps: 1, compares: true })).map(({ difference }) => difference);
  assert.deepEqual(await differences(1, {}), [null, null, null, null]);
  for (const same of await differences(2, {})) {
    assert.equal(same?.gradientError, 0);
    assert.equal(same.loss, same.plainLoss);
  }
  for (const near of await differences(2, { quantizedWeights: true, quantizedGradients: true })) {
    assert.ok(near && near.gradientError > 0.01 && near.gradientError < 0.3, `${near?.gradientError}`);
    assert.ok(near.loss !== near.plainLoss && Math.abs(near.loss / near.plainLoss - 1) < 0.01);
    expectNear(near, 0);
    const wrong = { ...near, loss: 1.1 * near.plainLoss };
    assert.throws(() => expectNear(wrong, 2), /change the first micro-batch of rank 2: its loss is [\d.]+ in place of/);
    assert.throws(() => expectNear({ ...near, gradientError: 1 }, 2), /its gradient is off by 100\.0 %/);
    expectNear({ ...near, loss: Number.NaN, gradientError: Number.NaN }, 0); // an overflow is the loss scale's matter
  }
});

test('frozen weights alone in 8 bits leave the trained ones exact; gradients in 4 bits work at stage 2 too', async () => {
  const config = { r: 2, lora_alpha: 6, target_modules: ['q_proj', 'v_proj'] };
  const model = () => withAdapter(tinyLlama(), adapterFromConfig(config));
  const kindsOf = (tuning: Partial<ZeroTuning>) => {
    const strategy = { zeroStage: 3, mesh: meshOf({ data: 4 }), rank: 1, tuning: { ...TIGHT, ...tuning } } as const;
    const { micro } = compileTraining({ model: model(), rows: ROWS, strategy, optimizer: OPTIMIZER });
    return micro.graph.ops.filter(({ kind }) => kind === 'block_quantise').map(({ path }) => path);
  };
  assert.throws(
    () => kindsOf({ quantizedNontrainableWeights: true, offloadParam: PARAMETERS_ON_HOST }),
    /zero_quantized_nontrainable_weights: expected false beside offload_param/,
  );
  const frozen = kindsOf({ quantizedNontrainableWeights: true });
  assert.ok(frozen.length > 0 && frozen.every((path) => path.endsWith('.frozen')), frozen.join());
  assert.ok(kindsOf({ quantizedWeights: true }).length > frozen.length);
  const [plain, plus] = [
    await run({ zeroInner: 1, zeroStage: 2 }),
    await run({ zeroInner: 2, zeroStage: 2, tuning: { quantizedGradients: true } }),
  ];
  const off = Math.abs(plus[0]!.norms[0]! / plain[0]!.norms[0]! - 1);
  assert.ok(off > 0 && off < 0.1, `${off}`);
});

test('numbers that are not finite in one rank survive the exchange in 4 bits: every rank skips', async () => {
  const mesh = meshOf({ data: 2 });
  const name = `rlt-${randomUUID()}`;
  const joining = [0, 1].map((rank) => native().joinShmGroup({ name, rank, size: 2, timeoutMs: 60_000 }));
  const communicators = await Promise.all(joining);
  const skipped = await Promise.all(
    communicators.map(async (communicator, rank) => {
      using opened = openDevice(1);
      const tuning = { ...TIGHT, quantizedGradients: true };
      const strategy = { zeroStage: 3, mesh, rank, tuning } as const;
      const groups = { zero: communicator, zeroOuter: communicator };
      const common = { model: tinyGpt2(), rows: ROWS, strategy, optimizer: OPTIMIZER, dtype: 'f16' } as const;
      await using step = TrainStep.create({ ...common, device: opened.device, communicators: groups });
      initialise(common.model, 3, step.parameters);
      const batch = randomBatch([9], ROWS, VOCABULARY, `${rank}`);
      await step.micro(batch, { scale: rank === 1 ? 1e9 : 0.05, isFirst: true, lossScale: 256 });
      return (await step.update({ lr: 1e-2, step: 1, lossScale: 256 })).isSkipped;
    }),
  );
  assert.deepEqual(skipped, [true, true]);
  for (const communicator of communicators) communicator.dispose();
});

test('what crosses machines: 3M bytes become 0.75M, blocks and their steps counted', async () => {
  // Large enough that padding is little; M = 2 bytes a parameter, as gradients of 16 bits would be.
  const model = () =>
    modelFromConfig({
      model_type: 'gpt2',
      n_layer: 3,
      n_head: 4,
      n_embd: 128,
      n_positions: 64,
      vocab_size: 512,
    });
  const all = { quantizedWeights: true, quantizedGradients: true };
  const strategy = { zeroStage: 3, mesh: meshOf({ data: 4, zeroInner: 2 }), rank: 0 } as const;
  const tuning = { ...ZERO_TUNING, ...TIGHT, ...all };
  const { layout, micro } = compileTraining({
    model: model(),
    rows: ROWS,
    strategy: { ...strategy, tuning },
    optimizer: OPTIMIZER,
    dtype: 'bf16',
  });
  const psi = layout.elements;
  const m = 2 * psi;
  // A rank receives what the others hold: 3/4 of what is gathered from all four, half of what comes from the other machine.
  const received = { zero: 0, zeroInner: 0, zeroOuter: 0 };
  for (const { kind, attributes, inputs } of micro.graph.ops) {
    if (kind !== 'all_gather' && kind !== 'all_to_all') continue;
    const [name, size] = ([['zero', 4]] as [keyof typeof received, number][])
      .concat([
        ['zeroInner', groupOf(strategy.mesh, 0, 'zeroInner').size],
        ['zeroOuter', groupOf(strategy.mesh, 0, 'zeroOuter').size],
      ])
      .find((_, index) => attributes.group === [0, 5, 6][index])!;
    const { dims, dtype } = micro.graph.tensors[inputs[0]!]!;
    const bytes = dims[0]! * (dtype === 'u8' ? 1 : 2);
    received[name] += kind === 'all_gather' ? bytes * size : bytes;
  }
  // Buckets whose two uses are one stay are gathered once by either; the others a second time, inside the machine.
  assert.ok(Math.abs(received.zero / (0.5 * m) - 1) < 0.12, `${received.zero / m} M of weights`);
  assert.ok(received.zeroInner > 0);
  // Each rank reduces over the outer hop only its share of the inner one: half of the payload of 4 bits.
  assert.ok(Math.abs(received.zeroOuter / ((0.25 * m) / 2) - 1) < 0.05, `${received.zeroOuter / m} M of gradients`);

  const [plain, plus] = [
    await run({ model, dtype: 'bf16', zeroInner: 1, steps: 1 }),
    await run({ model, dtype: 'bf16', zeroInner: 2, tuning: all, steps: 1 }),
  ];
  // In shared memory a gathered slice is written once: a quarter of the whole for each gather.
  const weights = plus[0]!.sent.zero!;
  assert.ok(Math.abs(weights / ((0.5 * m) / 4) - 1) < 0.12, `${weights} of ${m}`);
  assert.ok(plain[0]!.sent.zero! > 5 * (weights + plus[0]!.sent.zeroOuter!));
});
