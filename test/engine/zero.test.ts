// Data parallelism: two ranks with half of the micro-batches each, with and without partitioned optimiser state, end with the
// parameters of one rank that saw them all. The ranks are two devices of one process, joined over shared memory.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { EngineError } from '#src/common/index.js';
import {
  compileTraining,
  meshOf,
  type ParameterSlice,
  type StateKind,
  type Strategy,
  type TokenBatch,
  TrainStep,
} from '#src/engine/index.js';
import { initialise, type Model } from '#src/models/index.js';
import { type NativeCommunicator, native } from '#src/native/index.js';
import { openDevice } from './device-for-tests.js';
import { ALONE, labelled, OPTIMIZER, randomBatch, tinyGpt2, tinyLlama } from './models-for-tests.js';

const ROWS = 24;
const STEPS = 4;
const RANKS = 2;

function joinAll(): Promise<NativeCommunicator[]> {
  const name = `rlt-${randomUUID()}`;
  const join = (rank: number) => native().joinShmGroup({ name, rank, size: RANKS, timeoutMs: 60_000 });
  return Promise.all(Array.from({ length: RANKS }, (_, rank) => join(rank)));
}

/** Two micro-batches per step. */
const batchesOf = (step: number) => [0, 1].map((i) => randomBatch([11, 6 + i], ROWS, 37, `${step}/${i}`));

interface Outcome {
  readonly norms: readonly number[];
  readonly parameters: ReadonlyMap<string, Float32Array>;
  readonly state: ReadonlyMap<string, Float32Array>;
}

async function train(model: Model, strategy: Strategy, communicator: NativeCommunicator | null): Promise<Outcome> {
  using opened = openDevice(1);
  const settings = {
    model,
    rows: ROWS,
    strategy,
    optimizer: OPTIMIZER,
    device: opened.device,
    communicators: { zero: communicator },
  };
  await using job = TrainStep.create(settings);
  initialise(model, 3, job.parameters);
  const norms: number[] = [];
  for (let step = 1; step <= STEPS; step++) {
    const all = batchesOf(step);
    const tokens = all.reduce((sum, batch) => sum + labelled(batch), 0);
    const mine: readonly TokenBatch[] = communicator ? [all[strategy.rank]!] : all;
    for (const [i, batch] of mine.entries()) await job.micro(batch, { scale: 1 / tokens, isFirst: i === 0 });
    norms.push((await job.update({ lr: 1e-2, step })).gradientNorm);
  }
  const parameters = new Map(job.parameters.parameters.map(({ name }) => [name, job.readParameter(name)]));
  const key = (kind: StateKind, slice: ParameterSlice) => `${kind} of ${slice.name} from ${slice.parameterOffset}`;
  const state = job.slices.flatMap((slice) =>
    job.stateOf(slice).map((kind) => [key(kind, slice), job.readState(kind, slice)] as const),
  );
  return { norms, parameters, state: new Map(state) };
}

for (const [name, make] of [
  ['gpt2', tinyGpt2],
  ['llama', tinyLlama],
] as const) {
  for (const zeroStage of [0, 1] as const) {
    test(`${name}: two ranks at ZeRO stage ${zeroStage} train as one rank does`, async () => {
      const alone = await train(make(), ALONE, null);
      const communicators = await joinAll();
      const outcomes = await Promise.all(
        communicators.map((communicator, rank) =>
          train(make(), { zeroStage, mesh: meshOf({ data: RANKS }), rank }, communicator),
        ),
      );
      for (const communicator of communicators) communicator.dispose();
      for (const outcome of outcomes) {
        for (const [step, norm] of outcome.norms.entries()) {
          assert.ok(Math.abs(norm / alone.norms[step]! - 1) < 1e-5, `norm of step ${step}: ${norm}`);
        }
        for (const [parameter, values] of alone.parameters) {
          assert.deepEqual(outcome.parameters.get(parameter), outcomes[0]!.parameters.get(parameter));
          const worst = Math.max(...outcome.parameters.get(parameter)!.map((v, i) => Math.abs(v - values[i]!)));
          // Adam makes full steps of rounding noise where a gradient is all but zero (the bias of the keys).
          const limit = parameter.endsWith('c_attn.bias') ? 2e-2 * STEPS : 1e-4;
          assert.ok(worst < limit, `${parameter} differs by ${worst}`);
        }
      }
      const owned = outcomes.map((outcome) => [...outcome.state.values()].reduce((sum, part) => sum + part.length, 0));
      const total = [...alone.state.values()].reduce((sum, part) => sum + part.length, 0);
      if (zeroStage === 1) assert.equal(owned[0]! + owned[1]!, total, 'each element of state has one owner');
      else assert.deepEqual(owned, [total, total]);
    });
  }
}

test('ranks of one job compile to one hash, another configuration to another', () => {
  const compile = (rank: number, weightDecay: number) => {
    const strategy = { zeroStage: 1, mesh: meshOf({ data: RANKS }), rank } as const;
    return compileTraining({ model: tinyGpt2(), rows: ROWS, strategy, optimizer: { ...OPTIMIZER, weightDecay } });
  };
  assert.equal(compile(0, 0.1).jobHash, compile(1, 0.1).jobHash);
  assert.equal(compile(0, 0.1).micro.hash, compile(0, 0.1).micro.hash);
  assert.notEqual(compile(0, 0.1).jobHash, compile(0, 0.2).jobHash);
});

test('a job is refused without the communicator that its programs use, and with one of another group', async () => {
  const model = tinyGpt2();
  const communicators = await joinAll();
  using opened = openDevice(1);
  const create = (data: number, zero: NativeCommunicator | null) => {
    const strategy = { zeroStage: 1, mesh: meshOf({ data }), rank: 0 } as const;
    const job = { model, rows: ROWS, strategy, optimizer: OPTIMIZER, device: opened.device, communicators: { zero } };
    return TrainStep.create(job);
  };
  assert.throws(() => create(RANKS, null), /communicators\.zero: expected the one of rank 0 of 2, got null/);
  assert.throws(() => create(RANKS, communicators[1]!), /communicators\.zero: expected the one of rank 0 of 2/);
  assert.throws(() => create(1, communicators[0]!), /communicators\.zero: expected the one of rank 0 of 1/);
  for (const communicator of communicators) communicator.dispose();
});

test('ranks of different jobs all hear which rank differs, before anything is exchanged', async () => {
  const communicators = await joinAll();
  const failures = await Promise.all(
    communicators.map(async (zero, rank) => {
      using opened = openDevice(1);
      const strategy = { zeroStage: 1, mesh: meshOf({ data: RANKS }), rank } as const;
      const optimizer = { ...OPTIMIZER, weightDecay: rank === 0 ? 0.1 : 0.2 };
      const settings = { model: tinyGpt2(), rows: ROWS, strategy, optimizer, device: opened.device };
      await using job = TrainStep.create({ ...settings, communicators: { zero } });
      const failure = await job.micro(batchesOf(1)[0]!, { scale: 1, isFirst: true }).catch((error: unknown) => error);
      assert.ok(failure instanceof EngineError);
      await assert.rejects(job.update({ lr: 1e-2, step: 1 }), EngineError, 'and nothing runs afterwards');
      return failure;
    }),
  );
  for (const communicator of communicators) communicator.dispose();
  for (const { rank, message } of failures) {
    assert.equal(rank, 1);
    assert.match(message, /rank 1 has compiled another job than rank 0/);
  }
});

test('partitioning halves optimiser state and leaves the rest as it is', () => {
  const weigh = (zeroStage: 0 | 1) => {
    const strategy = { zeroStage, mesh: meshOf({ data: RANKS }), rank: 0 };
    return compileTraining({ model: tinyLlama(), rows: ROWS, strategy, optimizer: OPTIMIZER }).memory;
  };
  const [whole, part] = [weigh(0), weigh(1)];
  assert.ok(part.optimizerBytes < 0.52 * whole.optimizerBytes, `${part.optimizerBytes} of ${whole.optimizerBytes}`);
  assert.equal(part.activationBytes, whole.activationBytes);
});
