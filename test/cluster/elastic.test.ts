// One run on one layout of workers after another: through checkpoints wherever it is told to, and by itself where nodes are lost and come.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { init, placementGroup } from '#src/client/index.js';
import { TrainingError } from '#src/common/index.js';
import type { DsConfigInput, TrainingEvent } from '#src/train/index.js';
import { type TestNodes, TOKEN } from '../client/support/nodes.js';
import { onTwoNodes } from './on-two-nodes.js';
import { close, KEY_BIASES, sameModel, type TinyOptions, tinyRuns, tinyTrainer } from './tiny-trainer.js';

describe('on four CPUs', () => {
  const { trainer } = tinyRuns('elastic');

  test('four workers at stage 3, then two by two tensor ranks at stage 1, then one: the losses and the model of one throughout', async () => {
    const run = { checkpoint: { everySteps: 1, numToKeep: 1 } };
    const layouts: readonly (readonly [until: number | null, workers: number, more: TinyOptions])[] = [
      [3, 4, { zero: 3 }],
      [5, 4, { zero: 1, scaling: { tensorParallel: 2 } }],
      [null, 1, {}],
    ];
    const from: number[] = [];
    for (const [index, [until, workers, more]] of layouts.entries()) {
      const stopped = new AbortController();
      const stage = trainer('chain', workers, { ...more, run: { ...run, resume: index > 0 } }).fit({
        onProgress(event) {
          if (event.kind === 'started') from.push(event.fromStep);
          if (event.kind === 'checkpoint' && event.step === until) stopped.abort(new Error('on to the next'));
        },
        signal: stopped.signal,
      });
      if (index < layouts.length - 1) {
        await assert.rejects(stage, /on to the next/);
        continue;
      }
      const chain = await stage;
      assert.deepEqual(from, [0, 3, 5]);
      const one = await trainer('one', 1).fit();
      close(chain.losses, one.losses);
      await sameModel(chain.model, one.model, 1e-4, KEY_BIASES);
    }
  });

  test('a range of workers needs rows that are the same for all of them, and numbers that share these', async () => {
    const range = { min: 2, max: 4 };
    const refused = (more: TinyOptions, message: RegExp, workers = range) =>
      assert.rejects(async () => trainer('refused', workers, more).fit(), message);
    await refused(
      { deepspeed: { train_batch_size: 'auto', train_micro_batch_size_per_gpu: 1 } },
      /deepspeed.train_batch_size: expected a number beside a range of workers, got "auto"/,
    );
    await refused({ scaling: { cpusPerWorker: 0 } }, /cpusPerWorker: expected a positive number beside a range/);
    await refused({}, /workers.max: expected at least min, 4, got 2/, { min: 4, max: 2 });
    await refused({ scaling: { pipelineParallel: 3 } }, /workers: expected a multiple of .*, got 2/, {
      min: 1,
      max: 2,
    });
  });
});

test('under elasticity of DeepSpeed a run has as many workers as share its batch, and keeps them for min_time minutes', async () => {
  const elasticity = { enabled: true, max_train_batch_size: 6, micro_batch_sizes: [1, 2], version: 0.1 as const };
  const storage = await mkdtemp(join(tmpdir(), 'raylite-elasticity-'));
  try {
    await using _cluster = await init({ address: 'local', numCpus: 4, logToDriver: false });
    const sizes = { train_batch_size: 'auto', train_micro_batch_size_per_gpu: 'auto' } as const;
    const trainer = (name: string, workers: Parameters<typeof tinyTrainer>[2], deepspeed: DsConfigInput) =>
      tinyTrainer(storage, name, workers, { deepspeed, run: { checkpoint: { everySteps: 1 } } });
    const fixed = { train_batch_size: 6, train_micro_batch_size_per_gpu: 2 };
    const one = await trainer('one', 1, fixed).fit();
    for (const [minutes, expected] of [
      [0, ['1 from 0', '3']], // of four CPUs: four workers do not share six rows
      [1, ['1 from 0']],
    ] as const) {
      const taken = await placementGroup({ bundles: [{ cpus: 3 }] });
      await taken.ready();
      const happened: string[] = [];
      let removed: Promise<void> | null = null;
      const { losses } = await trainer(
        `after-${minutes}`,
        { min: 1, max: 4 },
        {
          ...sizes,
          elasticity: { ...elasticity, min_time: minutes },
        },
      ).fit({
        onProgress(event) {
          if (event.kind === 'started') happened.push(`${event.workers} from ${event.fromStep}`);
          if (event.kind === 'grown') happened.push(`${event.workers}`);
          if (event.kind === 'step') removed ??= taken.remove();
        },
      });
      await removed;
      assert.deepEqual(happened, expected);
      close(losses, one.losses);
    }
  } finally {
    await rm(storage, { recursive: true, force: true });
  }
});

test('a run loses a node and goes on with the workers of the other, then takes in those of a new one: the losses of one worker', async () => {
  await onTwoNodes(async (nodes, storage) => {
    const run = { checkpoint: { everySteps: 2 }, failure: { maxFailures: 1 } };
    const losses: number[] = [];
    const happened: string[] = [];
    const done: Promise<void>[] = [];
    const enough = new AbortController();
    let last = Number.POSITIVE_INFINITY;
    const onProgress = (event: TrainingEvent): void => {
      if (event.kind === 'started') {
        happened.push(`${event.workers} workers from ${event.fromStep}`);
        if (event.failures === 1) done.push(nodes.addNode('new'));
      }
      if (event.kind === 'grown') {
        happened.push(`${event.workers} workers`);
        last = event.step + 5;
      }
      if (event.kind !== 'step') return;
      losses[event.step - 1] = event.loss;
      if (event.step === 5 && done.length === 0) done.push(nodes.killNode(nodes.node('there').nodeId));
      if (event.step === last) enough.abort(new Error('seen enough'));
    };
    // It goes on until the new node is there.
    const elastic = tinyTrainer(storage, 'elastic', { min: 1, max: 4 }, { zero: 3, run, recipe: { maxSteps: 5000 } });
    await assert.rejects(elastic.fit({ onProgress, signal: enough.signal }), /seen enough/);
    await Promise.all(done);
    assert.deepEqual(happened, ['4 workers from 0', '2 workers from 4', '4 workers']);
    const seen = losses.slice(0, last);
    const one = await tinyTrainer(storage, 'one', 1, { recipe: { maxSteps: seen.length } }).fit();
    close(seen, one.losses);
  });
});

test('a run of a fixed number of workers waits for a node in place of a lost one, says for what, and goes on from its checkpoint', async () => {
  await onTwoNodes(async (nodes, storage) => {
    const run = { checkpoint: { everySteps: 2 }, failure: { maxFailures: 1 } };
    const happened: string[] = [];
    const reasons: string[] = [];
    const done: Promise<void>[] = [];
    const { losses, metrics } = await tinyTrainer(storage, 'fixed', 4, { zero: 2, run }).fit({
      onProgress(event) {
        if (event.kind === 'started') happened.push(`${event.workers} workers from ${event.fromStep}`);
        if (event.kind === 'step' && event.step === 5 && done.length === 0)
          done.push(nodes.killNode(nodes.node('there').nodeId));
        if (event.kind !== 'waiting') return;
        assert.deepEqual([event.workers, event.seconds], [4, 600]);
        if (reasons.push(event.reason) === 1)
          done.push(shownInStatus(nodes, event.reason).then(() => nodes.addNode('new')));
      },
    });
    await Promise.all(done);
    assert.deepEqual(happened, ['4 workers from 0', '4 workers from 4']);
    assert.match(reasons[0]!, /^waits for bundles of 4 × 1 CPU on few nodes\. Free is /);
    assert.equal(metrics.failures, 1);
    const one = await tinyTrainer(storage, 'one', 1).fit();
    close(losses, one.losses);
  });
});

/** Resolves once the head shows a run that is to start again, and why it does not. */
async function shownInStatus(nodes: TestNodes, reason: string): Promise<void> {
  for (;;) {
    const reply = await fetch(`${nodes.head.httpUrl}/api/runs`, { headers: { authorization: `Bearer ${TOKEN}` } });
    const [run] = (await reply.json()) as { latest: { state: string; message?: string } }[];
    if (run?.latest.state === 'RESTARTING' && run.latest.message === reason) return;
  }
}

test('a run whose lost node is not replaced in time ends with what it waited for and what to do', async () => {
  await onTwoNodes(async (nodes, storage) => {
    const failure = { maxFailures: 1, joinTimeoutSeconds: 2 };
    const done: Promise<void>[] = [];
    const fixed = tinyTrainer(storage, 'fixed', 4, { run: { checkpoint: { everySteps: 2 }, failure } });
    await assert.rejects(
      fixed.fit({
        onProgress(event) {
          if (event.kind === 'step' && event.step === 3 && done.length === 0)
            done.push(nodes.killNode(nodes.node('there').nodeId));
        },
      }),
      (error) =>
        error instanceof TrainingError &&
        /^no room for 4 workers within 2 s \(run\.failure\.joinTimeoutSeconds\): waits for bundles of 4 × 1 CPU .*Start a node that has it and run again with run\.resume/.test(
          error.message,
        ),
    );
    await Promise.all(done);
    // What was set aside on the other node is free again.
    const { losses } = await tinyTrainer(storage, 'fixed', 2, { run: { resume: true } }).fit();
    const one = await tinyTrainer(storage, 'one', 1).fit();
    close(losses, one.losses);
  });
});

test('a node that falls silent while workers start on it is done without', async () => {
  await onTwoNodes(async (nodes, storage) => {
    const { nodeId } = nodes.node('there');
    const workers: number[] = [];
    const trainer = tinyTrainer(storage, 'silent', { min: 1, max: 4 }, { recipe: { maxSteps: 2 } });
    try {
      const { metrics } = await trainer.fit({
        onProgress(event) {
          if (event.kind === 'data') nodes.freezeNode(nodeId); // the head does not know yet, and gives room on it
          if (event.kind === 'started') workers.push(event.workers);
        },
      });
      assert.deepEqual(workers, [2]);
      assert.equal(metrics.failures, 0);
    } finally {
      await nodes.killNode(nodeId);
    }
  });
});
