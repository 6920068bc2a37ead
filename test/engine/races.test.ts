// Two streams over one arena, ZeRO stages 2 and 3: however late any thread is, and whatever lies in free memory, a step computes the same.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  compileTraining,
  DeviceBuffers,
  GraphBuilder,
  meshOf,
  type Op,
  type ParameterPart,
  type Plan,
  Program,
  partsOf,
  plan,
  type Recompute,
  type ZeroStage,
} from '#src/engine/index.js';
import { initialise } from '#src/models/index.js';
import { type NativeCommunicator, native } from '#src/native/index.js';
import { openDevice } from './device-for-tests.js';
import { labelled, OPTIMIZER, randomBatch, tinyGpt2 } from './models-for-tests.js';

const ROWS = 16;
const RANKS = 2;

interface Trial {
  readonly zeroStage: ZeroStage;
  readonly recompute: Recompute;
  /** Seeds of the delays of each rank's threads; null: no delays. */
  readonly jitter: readonly number[] | null;
  /** Free parts of the arena are overwritten as soon as the plan says that they are free. */
  readonly isPoisoned: boolean;
}

/** `source` with an op behind the last use of every block of the arena that fills it with what no result survives. */
function poisoned(source: Plan): Plan {
  const builder = new GraphBuilder(source.graph);
  const places = new Map(source.places);
  const fills = source.arena.lives.map(({ path, bytes, offsetBytes, last }) => {
    const [filled] = builder.op('fill', path, [], { value: 3e38, elements: Math.ceil(bytes / 4) });
    places.set(filled!.id, { buffer: 'arena', offsetBytes });
    return { last, output: filled!.id };
  });
  const built = builder.build(source.graph.gradients);
  const fillOf = new Map(built.ops.slice(source.graph.ops.length).map((op) => [op.outputs[0]!, op]));
  const ops = source.graph.ops.flatMap((op, index): Op[] => [
    op,
    ...fills.filter(({ last }) => last === index).map(({ output }) => fillOf.get(output)!),
  ]);
  const buffers = new Map(source.buffers.map(({ name, bytes }) => [name, bytes]));
  return plan({ graph: { ...built, ops }, places, buffers });
}

async function runRank(trial: Trial, rank: number, communicator: NativeCommunicator): Promise<number[]> {
  using opened = openDevice(2);
  const { device } = opened;
  const model = tinyGpt2();
  const { zeroStage } = trial;
  const tuning = { paramPersistenceThreshold: 20, maxReuseDistance: 0, prefetchBucketSize: 2000 };
  const strategy = { zeroStage, mesh: meshOf({ data: RANKS }), rank, tuning };
  const settings = { model, rows: ROWS, strategy, optimizer: OPTIMIZER, dropout: 0.1, recompute: trial.recompute };
  const compiled = compileTraining(settings);
  const plans = [compiled.clear!, compiled.micro, compiled.update].map((each) =>
    trial.isPoisoned ? poisoned(each) : each,
  );
  const buffers = new DeviceBuffers(device);
  buffers.reserve(plans);
  const programs = plans.map((each) => new Program(device, each, buffers, [communicator]));
  const [, micro, update] = programs as [Program, Program, Program];
  const parts = partsOf(compiled.layout, rank);
  const kept = ({ offset, length }: ParameterPart) => buffers.floats('parameters', offset, length);
  initialise(model, 5, {
    load(name, values) {
      const part = parts.get(name);
      if (part) kept(part).set(values.subarray(part.start, part.start + part.length));
    },
  });
  let runs = 0;
  const go = (program: Program) =>
    trial.jitter ? program.jitter(1 + ((trial.jitter[rank]! + 97 * runs++) % 2 ** 31)) : program.run();
  const seen: number[] = [];
  for (let n = 1; n <= 2; n++) {
    await go(programs[0]!);
    for (const index of [0, 1]) {
      const batch = randomBatch([9, 5], ROWS, 37, `${n} ${rank} ${index}`);
      for (const field of ['ids', 'positions', 'starts', 'ends', 'labels'] as const)
        micro.integers(field).set(batch[field]);
      micro.integers('random').set([1, 0, n, ROWS * (RANKS * index + rank)]);
      micro.floats('scale')[0] = 1 / labelled(batch);
      micro.floats('beta')[0] = 0;
      await go(micro);
      seen.push(micro.floats('loss')[0]!);
    }
    update.floats('lr')[0] = 1e-2;
    update.floats('step')[0] = n;
    await go(update);
    seen.push(update.floats('gradientNorm')[0]!);
  }
  for (const part of parts.values()) seen.push(...kept(part));
  for (const program of programs) program.dispose();
  buffers.dispose();
  return seen;
}

async function run(trial: Trial): Promise<number[][]> {
  const name = `rlt-${randomUUID()}`;
  const joining = [0, 1].map((rank) => native().joinShmGroup({ name, rank, size: RANKS, timeoutMs: 60_000 }));
  const communicators = await Promise.all(joining);
  try {
    return await Promise.all(communicators.map((communicator, rank) => runRank(trial, rank, communicator)));
  } finally {
    for (const communicator of communicators) communicator.dispose();
  }
}

for (const [zeroStage, recompute] of [
  [2, 'none'],
  [2, 'full'],
  [3, 'none'],
  [3, 'full'],
] as const) {
  test(`ZeRO stage ${zeroStage}: late threads and poisoned free memory change nothing (recompute: ${recompute})`, async () => {
    const expected = await run({ zeroStage, recompute, jitter: null, isPoisoned: false });
    assert.ok(expected.flat().every(Number.isFinite));
    const seeds = fc.option(fc.tuple(fc.nat(2 ** 30), fc.nat(2 ** 30)));
    await fc.assert(
      fc.asyncProperty(seeds, fc.boolean(), async (jitter, isPoisoned) => {
        assert.deepEqual(await run({ zeroStage, recompute, jitter, isPoisoned }), expected);
      }),
      { numRuns: 12, examples: [[[1, 2], true]] },
    );
  });
}
