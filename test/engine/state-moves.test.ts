// State that moves between layouts of ranks in memory: what is planned arrives once and travels no further than it must, and a job that
// moves between its steps learns what one rank learns that stays. 12 drawn chains of layouts, always the same;
// `npm test -- --nightly --only state-moves` draws 100 others, `--seed N` those of a failure.
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type FloatType,
  type Mesh,
  meshOf,
  messageOf,
  type OptimizerSettings,
  planMoves,
  StateExchange,
  type StatePiece,
  type TrainStep,
} from '#src/engine/index.js';
import { adapterFromConfig, withAdapter } from '#src/models/index.js';
import { openDevice } from './device-for-tests.js';
import { FAMILIES } from './families-for-tests.js';
import { createStep, type Job, trainRank } from './job-for-tests.js';
import { joinMesh, SMOOTH } from './meshes-for-tests.js';

const IS_NIGHTLY = process.env.RAYLITE_TEST_NIGHTLY === '1';
const SEED = Number(process.env.RAYLITE_TEST_SEED ?? (IS_NIGHTLY ? randomInt(2 ** 31) : 5));

interface Place {
  readonly mesh: Mesh;
  readonly zeroStage: 0 | 1 | 2 | 3;
}

const place = (zeroStage: Place['zeroStage'], axes: Partial<Mesh> = {}): Place => ({ mesh: meshOf(axes), zeroStage });

/** The ranks of a job, from here to its end. */
class Ranks implements AsyncDisposable {
  readonly steps: TrainStep[] = [];
  readonly #job: Job;
  readonly #groups: Awaited<ReturnType<typeof joinMesh>>;
  readonly #devices: ReturnType<typeof openDevice>[];

  private constructor(job: Job, groups: Awaited<ReturnType<typeof joinMesh>>) {
    this.#job = job;
    this.#groups = groups;
    this.#devices = groups.of.map(() => openDevice(1));
    for (const [rank, communicators] of groups.of.entries())
      this.steps.push(createStep(job, rank, communicators, this.#devices[rank]!.device));
  }

  static async start(job: Job): Promise<Ranks> {
    return new Ranks(job, await joinMesh(job.mesh));
  }

  /** The losses of the steps from `from` on. */
  async train(from: number): Promise<readonly number[]> {
    const histories = await Promise.all(this.steps.map((step, rank) => trainRank(this.#job, step, rank, from)));
    const { mesh } = this.#job;
    return histories[0]!.norms.map((_, step) =>
      histories.reduce((sum, { losses }, rank) => (rank % mesh.tensor === 0 ? sum + losses[step]! : sum), 0),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const step of this.steps) await step[Symbol.asyncDispose]();
    this.#groups.dispose();
    for (const device of this.#devices) device[Symbol.dispose]();
  }
}

/** Hands all state of `before` to `after`; the elements that went from one rank to another. */
function handOver(before: readonly TrainStep[], after: readonly TrainStep[]): number {
  const givers = before.map((train) => new StateExchange(train));
  const takers = after.map((train) => new StateExchange(train));
  const homes = takers.map((_, rank) => (rank < givers.length ? rank : null));
  const arrivals = planMoves(
    givers.map(({ held }) => held),
    takers.map(({ needed }) => needed),
    homes,
  );
  for (const { missing } of arrivals) assert.equal(missing, 0);
  let travelled = 0;
  for (const [to, taker] of takers.entries()) {
    const messages = givers.map((giver, from) => {
      const { outgoing, incoming } = messageOf(arrivals, from, to);
      const values = giver.pack(outgoing);
      if (from !== homes[to]) travelled += values.length;
      return { incoming, values };
    });
    taker.unpack(messages, before[0]!.updates);
  }
  return travelled;
}

const JOB = {
  model: FAMILIES['llama with 2 key-value heads']!(),
  rows: 16,
  micros: 4,
  steps: 2,
  lr: 1e-2,
  optimizer: SMOOTH,
  seed: 'moves',
} satisfies Partial<Job>;

/** Trains two steps at each place; the losses of all. */
async function moving(job: Omit<Job, 'mesh' | 'zeroStage'>, places: readonly Place[]): Promise<readonly number[]> {
  const losses: number[] = [];
  let ranks: Ranks | null = null;
  try {
    for (const [index, at] of places.entries()) {
      const next: Ranks = await Ranks.start({ ...job, ...at });
      if (ranks) {
        handOver(ranks.steps, next.steps);
        await ranks[Symbol.asyncDispose]();
      }
      ranks = next;
      losses.push(...(await next.train(1 + index * job.steps)));
    }
    return losses;
  } finally {
    await ranks?.[Symbol.asyncDispose]();
  }
}

function expectClose(found: readonly number[], wanted: readonly number[], limit: number): void {
  assert.equal(found.length, wanted.length);
  for (const [step, loss] of wanted.entries())
    assert.ok(Math.abs(found[step]! - loss) <= limit * loss, `step ${step + 1}: ${found[step]}, expected ${loss}`);
}

test('four ranks at stage 3, two by two tensor ranks at stage 1, one rank: the losses of one that stays', async () => {
  const alone = await moving({ ...JOB, steps: 6 }, [place(0)]);
  const places = [place(3, { data: 4 }), place(1, { data: 2, tensor: 2 }), place(0)];
  expectClose(await moving(JOB, places), alone, 1e-5);
  expectClose(await moving(JOB, places.toReversed()), alone, 1e-5);
});

test('there and back again no bit has changed, of masters, adapters and matrices that Muon steps', async () => {
  const muon: OptimizerSettings = {
    kind: 'muon',
    momentum: 0.9,
    isNesterov: true,
    iterations: 5,
    weightDecay: 0,
    maxGradientNorm: 1,
    adam: { beta1: 0.9, beta2: 0.95, eps: 1e-2, rateRatio: 0.1 },
  };
  const adapter = adapterFromConfig({ r: 2, lora_alpha: 6, target_modules: ['q_proj', 'down_proj'] });
  const cases: readonly (readonly [Partial<Job>, Place, Place])[] = [
    [{ dtype: 'bf16' }, place(2, { data: 2, tensor: 2 }), place(3, { data: 3 })],
    [{ model: withAdapter(JOB.model, adapter) }, place(1, { data: 2 }), place(0, { tensor: 4 })],
    [{ optimizer: muon }, place(3, { data: 4 }), place(1, { data: 2, pipeline: 2 })],
  ];
  for (const [more, here, there] of cases) {
    const job = { ...JOB, ...more };
    await using first = await Ranks.start({ ...job, ...here });
    await first.train(1);
    await using second = await Ranks.start({ ...job, ...there });
    await using third = await Ranks.start({ ...job, ...here });
    handOver(first.steps, second.steps);
    handOver(second.steps, third.steps);
    for (const [rank, step] of first.steps.entries()) {
      const other = third.steps[rank]!;
      assert.equal(other.updates, step.updates);
      for (const slice of step.slices)
        for (const kind of step.stateOf(slice))
          assert.deepEqual(other.readState(kind, slice), step.readState(kind, slice), `${kind} of ${slice.name}`);
    }
  }
});

test('drawn chains of layouts, families and types train as one rank', async () => {
  const places = fc
    .record({
      data: fc.integer({ min: 1, max: 4 }),
      tensor: fc.constantFrom(1, 1, 2, 4),
      sequence: fc.constantFrom(1, 1, 2),
      pipeline: fc.constantFrom(1, 1, 2),
      zeroStage: fc.constantFrom<Place['zeroStage']>(0, 1, 2, 3),
    })
    .filter(({ data, tensor, sequence, pipeline }) => 4 % data === 0 && data * tensor * sequence * pipeline <= 8)
    .filter(({ tensor, sequence }) => tensor * sequence <= 4)
    .map(({ zeroStage, ...axes }) => place(axes.pipeline > 1 && zeroStage > 1 ? 1 : zeroStage, axes));
  const chains = fc.record({
    places: fc.array(places, { minLength: 2, maxLength: 3 }),
    family: fc.constantFrom('gpt2', 'tied llama', 'qwen3', 'gpt_neox in series'),
    dtype: fc.constantFrom<FloatType>('f32', 'f32', 'bf16'),
  });
  const property = fc.asyncProperty(chains, async ({ places, family, dtype }) => {
    const job = { ...JOB, model: FAMILIES[family]!(), dtype };
    const alone = await moving({ ...job, steps: 2 * places.length }, [place(0)]);
    expectClose(await moving(job, places), alone, dtype === 'f32' ? 1e-5 : 2e-2);
  });
  await fc.assert(property, { seed: SEED, numRuns: IS_NIGHTLY ? 100 : 12 });
});

test('nothing travels that a rank has, and those that have the same share the giving', async () => {
  const job = { ...JOB, zeroStage: 0 as const };
  await using four = await Ranks.start({ ...job, mesh: meshOf({ data: 4 }) });
  await using two = await Ranks.start({ ...job, mesh: meshOf({ data: 2 }) });
  assert.equal(handOver(four.steps, two.steps), 0);

  const piece = (name: string): StatePiece => {
    return { name, kind: 'parameter', cut: null, tensorRank: 0, start: 0, length: 8 };
  };
  const both = [piece('a'), piece('b')];
  const shared = planMoves([both, both], [both]);
  assert.deepEqual(
    shared.map(({ moves }) => moves.map(({ from }) => from)),
    [[0], [1]],
  );
  const [part] = planMoves([[{ ...piece('a'), length: 3 }], [{ ...piece('a'), start: 5, length: 3 }]], [[piece('a')]]);
  assert.equal(part!.missing, 2);
  assert.deepEqual(
    part!.moves.map(({ from, stretches }) => [from, stretches]),
    [
      [0, [{ source: 0, target: 0, length: 3 }]],
      [1, [{ source: 0, target: 5, length: 3 }]],
    ],
  );
});
