// Nodes that leave in an orderly way, with real processes: elastic runs move off them in memory, calls end or go elsewhere, and what is
// still there when the time is over is lost as ever.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { actor, drainingNodes, get, kill, nodes as listNodes, placementGroup, task, wait } from '#src/client/index.js';
import type { TrainingEvent } from '#src/train/index.js';
import { Gate, nodeOf, noise, sha256Of } from '../client/support/user-code.js';
import { onTwoNodes } from './on-two-nodes.js';
import { close, tinyTrainer } from './tiny-trainer.js';

/** Notes what a run tells of its workers. */
const noted = (happened: string[], event: TrainingEvent): void => {
  if (event.kind === 'started') happened.push(`${event.workers} from ${event.fromStep}, ${event.failures} failures`);
  if (event.kind === 'moved' || event.kind === 'grown') happened.push(`${event.kind}: ${event.workers}`);
  if (event.kind === 'notes') happened.push(...event.notes.filter((note) => note.includes('to leave')));
};

test('a drained node: the run goes on with the workers of the other from the step it was at, with no checkpoint, and takes in those of a new node', async () => {
  await onTwoNodes(async (nodes, storage) => {
    const { nodeId } = nodes.node('there');
    const happened: string[] = [];
    const losses: number[] = [];
    const done: Promise<unknown>[] = [];
    const enough = new AbortController();
    let last = Number.POSITIVE_INFINITY;
    const onProgress = (event: TrainingEvent): void => {
      noted(happened, event);
      if (event.kind === 'moved') {
        assert.ok(event.step >= 3, `moved after step ${event.step}`);
        done.push(
          nodes
            .nodeEnds(nodeId)
            .then((code) => assert.equal(code, 0))
            .then(() => nodes.addNode('new')),
        );
      }
      if (event.kind === 'grown') last = event.step + 3;
      if (event.kind !== 'step') return;
      losses.push(event.loss); // each step comes once
      if (event.step === 3) done.push(nodes.drain(nodeId).then(({ state }) => assert.equal(state, 'DRAINING')));
      if (event.step >= last) enough.abort(new Error('seen enough'));
    };
    const run = { checkpoint: { everySteps: 40 } };
    const elastic = tinyTrainer(storage, 'elastic', { min: 1, max: 4 }, { zero: 3, run, recipe: { maxSteps: 20_000 } });
    await assert.rejects(elastic.fit({ onProgress, signal: enough.signal }), /seen enough/);
    await Promise.all(done);
    assert.deepEqual(happened, ['4 from 0, 0 failures', 'moved: 2', 'grown: 4']);
    const one = await tinyTrainer(storage, 'one', 1, { recipe: { maxSteps: losses.length } }).fit();
    close(losses, one.losses);
  });
});

test('a run of a fixed number of workers moves to another node with room for all of them', async () => {
  await onTwoNodes(async (nodes, storage) => {
    const taken = await placementGroup({ bundles: [{ cpus: 2, labels: {} }], strategy: 'STRICT_PACK' });
    await taken.ready();
    const { nodeId } = nodes.node('there');
    const happened: string[] = [];
    const done: Promise<unknown>[] = [];
    const losses: number[] = [];
    const enough = new AbortController();
    let last = Number.POSITIVE_INFINITY;
    const fixed = tinyTrainer(storage, 'fixed', 2, { zero: 2, recipe: { maxSteps: 20_000 } });
    const ended = fixed.fit({
      onProgress(event) {
        noted(happened, event);
        if (event.kind === 'moved') last = event.step + 3;
        if (event.kind !== 'step') return;
        losses.push(event.loss);
        if (event.step === 3) done.push(taken.remove().then(() => nodes.drain(nodeId)));
        if (event.step >= last) enough.abort(new Error('seen enough'));
      },
      signal: enough.signal,
    });
    await assert.rejects(ended, /seen enough/);
    await Promise.all(done);
    assert.deepEqual(happened, ['2 from 0, 0 failures', 'moved: 2']);
    const one = await tinyTrainer(storage, 'one', 1, { recipe: { maxSteps: losses.length } }).fit();
    close(losses, one.losses);
  });
});

test('where there is no room elsewhere a checkpoint is written, and the run goes on from it once the time is over and a node has come', async () => {
  await onTwoNodes(async (nodes, storage) => {
    const { nodeId } = nodes.node('there');
    const happened: string[] = [];
    const done: Promise<unknown>[] = [];
    const steps: number[] = [];
    const enough = new AbortController();
    const run = { failure: { maxFailures: 1 } };
    const fixed = tinyTrainer(storage, 'fixed', 4, { zero: 1, run, recipe: { maxSteps: 20_000 } });
    let savedAt = 0;
    const ended = fixed.fit({
      onProgress(event) {
        noted(happened, event);
        if (event.kind === 'checkpoint') savedAt ||= event.step;
        if (event.kind === 'failed') done.push(nodes.addNode('new'));
        if (event.kind !== 'step') return;
        steps.push(event.step);
        if (event.step === 3) done.push(nodes.drain(nodeId, { deadline_remaining_seconds: 1, reason_message: 'spot' }));
        if (event.step > 3 && happened.length === 3) enough.abort(new Error('seen enough'));
      },
      signal: enough.signal,
    });
    await assert.rejects(ended, /seen enough/);
    await Promise.all(done);
    assert.ok(savedAt >= 3);
    assert.equal(happened[0], '4 from 0, 0 failures');
    assert.match(happened[1]!, /is to leave, and there is no room for its workers elsewhere/);
    assert.equal(happened[2], `4 from ${savedAt}, 1 failures`);
    const { stateReason } = (await nodes.nodeState(nodeId))!;
    assert.equal(stateReason, 'it was drained (preemption: spot), and its time was over');
  });
});

test('SIGTERM: calls that run on the node end, tasks that wait go elsewhere, and the node leaves when nothing is left', async () => {
  await onTwoNodes(async (nodes) => {
    await nodes.addNode('third', 60);
    const { nodeId } = nodes.node('third');
    const there = { schedulingStrategy: `node:${nodeId}` } as const;
    const gate = await actor(Gate, { ...there, cpus: 1, maxConcurrency: 4 }).create();
    const waits = gate.wait();
    await gate.entered();
    const ended = nodes.nodeEnds(nodeId, 'SIGTERM');
    await untilDraining(nodeId);
    assert.equal((await nodes.nodeState(nodeId))!.state, 'DRAINING');
    const seen = (await listNodes()).find((node) => node.nodeId === nodeId)!;
    assert.deepEqual([seen.isAlive, seen.isDraining], [true, true]);
    // More than the others have room for at a time.
    const where = await get(Array.from({ length: 20 }, () => task(nodeOf, { cpus: 1 })()));
    assert.ok(!where.includes(nodeId), 'a task went to the node that leaves');
    await gate.open();
    assert.equal(await waits, 'open');
    await kill(gate);
    assert.equal(await ended, 0);
    assert.match(
      (await nodes.nodeState(nodeId))!.stateReason!,
      /^it was drained \(preemption: its machine sent SIGTERM\)$/,
    );
  });
});

test('an idle node leaves at once; the node of the head and unknown ones are refused; an order outlives the head', async () => {
  await onTwoNodes(async (nodes) => {
    await nodes.addNode('idle', 60);
    assert.equal(await nodes.nodeEnds(nodes.node('idle').nodeId, 'SIGTERM'), 0);
    const refused = async (id: string, request = {}): Promise<string> => (await nodes.drain(id, request)).error ?? '';
    assert.match(await refused('nobody'), /^nodeId: expected a node of the cluster, got "nobody"/);
    assert.match(await refused(nodes.node('here').nodeId), /^nodeId: expected another node than that of the head/);
    assert.match(await refused(nodes.node('there').nodeId, { reason: 'boredom' }), /^reason: /);
    const { nodeId } = nodes.node('there');
    const gate = await actor(Gate, { schedulingStrategy: `node:${nodeId}`, cpus: 1, maxConcurrency: 4 }).create();
    const waits = gate.wait();
    await gate.entered();
    assert.match(await refused(nodeId, { reason: 'idle-termination' }), /^reason: expected "preemption"/);
    await nodes.drain(nodeId);
    assert.equal((await nodes.drain(nodeId, { deadline_remaining_seconds: 3600 })).state, 'DRAINING', 'again');
    await nodes.killHead();
    await nodes.startHead();
    while ((await nodes.nodeState(nodeId))?.state !== 'DRAINING');
    await gate.open();
    assert.equal(await waits, 'open');
    await kill(gate);
    assert.equal(await nodes.nodeEnds(nodeId), 0);
  });
});

test('results that lie on the node move to the node of their owner before it leaves, also one that comes meanwhile', async () => {
  await onTwoNodes(async (nodes) => {
    await nodes.addNode('third');
    const { nodeId } = nodes.node('third');
    const there = { schedulingStrategy: `node:${nodeId}`, cpus: 1 } as const;
    const once = { ...there, maxRetries: 0 }; // nothing is made again
    const kept = [1, 2, 3].map((seed) => task(noise, once)(1_000_000, seed));
    await wait(kept, { numReturns: kept.length });
    const gate = await actor(Gate, { ...there, maxConcurrency: 4 }).create();
    const late = gate.noiseOnceOpen(1_000_000, 4);
    await gate.entered();
    await nodes.drain(nodeId);
    await untilDraining(nodeId);
    await gate.open();
    await wait([late]);
    await kill(gate);
    assert.equal(await nodes.nodeEnds(nodeId), 0);
    const elsewhere = { schedulingStrategy: `node:${nodes.node('there').nodeId}` } as const;
    for (const [index, ref] of [...kept, late].entries()) {
      const expected = sha256Of(noise(1_000_000, index + 1));
      assert.equal(sha256Of(await ref), expected);
      assert.equal(await task(sha256Of, elsewhere)(ref), expected);
    }
  });
});

/** Resolves once this process has heard that the node is to leave. */
async function untilDraining(nodeId: string): Promise<void> {
  while (![...drainingNodes().keys()].some((known) => known === nodeId)) await listNodes();
}
