// `raylite memory` on a cluster of two nodes: who holds which object, why, and where its bytes lie.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import {
  type ActorHandle,
  actor,
  type Cluster,
  get,
  init,
  kill,
  type ObjectRef,
  put,
  task,
  wait,
} from '#src/client/index.js';
import type { HolderView, ObjectsView, ObjectView } from '#src/head/index.js';
import { CLI } from '../support/cli.js';
import { TestNodes, TOKEN } from './support/nodes.js';
import { Meeting, meetsWith, nestedLarge, noise, Shelf, sha256Of } from './support/user-code.js';

const MIB = 1024 * 1024;
const STORE_BYTES = 64 * MIB;

describe('raylite memory', () => {
  const two = new TestNodes({ here: {}, there: {} }, STORE_BYTES);
  let cluster: Cluster;
  let shelf: ActorHandle<Shelf>;
  before(async () => {
    process.env.RAYLITE_RECORD_CALL_SITES = '1';
    await two.open();
    process.env.RAYLITE_AGENT = two.node('here').uds;
    cluster = await init({ address: two.head.address, token: TOKEN, logToDriver: false });
    shelf = await actor(Shelf, { schedulingStrategy: `node:${two.node('there').nodeId}` }).create();
  });
  after(async () => {
    delete process.env.RAYLITE_AGENT;
    delete process.env.RAYLITE_RECORD_CALL_SITES;
    await cluster?.[Symbol.asyncDispose]();
    await two[Symbol.asyncDispose]();
  });

  const raylite = async (...args: readonly string[]): Promise<string> => {
    const env = { ...process.env, RAYLITE_ADDRESS: two.head.httpUrl, RAYLITE_TOKEN: TOKEN };
    return (await promisify(execFile)(process.execPath, [CLI, ...args], { env })).stdout;
  };
  const survey = async (): Promise<ObjectsView> => JSON.parse(await raylite('memory', '--json')) as ObjectsView;
  const viewOf = async (ref: ObjectRef<unknown>): Promise<ObjectView> => {
    const found = (await survey()).objects.find(({ objectId }) => objectId === ref.id);
    assert.ok(found, `${ref.id} is listed`);
    return found;
  };
  const holder = (view: ObjectView, isIt: (holder: HolderView) => boolean): HolderView => {
    const found = view.holders.find(isIt);
    assert.ok(found, JSON.stringify(view.holders));
    return found;
  };
  const isHere = ({ pid }: HolderView): boolean => pid === process.pid;
  const isShelf = ({ name }: HolderView): boolean => name === 'Shelf';

  test('a large object that was put lies in the arena, held by the driver that made it, with the line that did', async () => {
    const ref = put(noise(MIB, 1));
    await wait([ref]);
    const view = await viewOf(ref);
    assert.equal(view.state, 'stored');
    assert.ok(view.sizeBytes >= MIB && view.sizeBytes < 1.1 * MIB, String(view.sizeBytes));
    assert.deepEqual(view.places, [{ nodeId: two.node('here').nodeId, place: 'arena' }]);
    assert.equal(view.owner.pid, process.pid);
    assert.match(view.owner.name, /^driver /);
    assert.match(view.callSite ?? '', /memory\.test\.[jt]s:\d+/);
    assert.equal(holder(view, isHere).isReferenced, true);
    ref.release();
    assert.ok(!(await survey()).objects.some(({ objectId }) => objectId === ref.id), 'what was released is gone');
  });

  test('who borrows a ref, who looks at the bytes, and where copies are', async () => {
    const ref = put(noise(MIB, 2));
    await shelf.keepRef({ ref });
    const lent = await viewOf(ref);
    assert.equal(holder(lent, isHere).lentCount, 1);
    assert.equal(holder(lent, isHere).isReferenced, true);
    const borrower = holder(lent, isShelf);
    assert.deepEqual([borrower.isBorrower, borrower.nodeId], [true, two.node('there').nodeId]);
    await shelf.keepValue(ref);
    const read = await viewOf(ref);
    assert.equal(holder(read, isShelf).isMapped, true);
    const places = new Map(read.places.map(({ nodeId, place }) => [place, nodeId]));
    assert.deepEqual([places.get('arena'), places.get('copy')], [two.node('here').nodeId, two.node('there').nodeId]);
  });

  test('arguments of calls in flight, refs inside other objects, results still to come, small values', async () => {
    const meeting = await actor(Meeting, { maxConcurrency: 4 }).create();
    const argument = put(noise(MIB, 3));
    const pending = task(meetsWith)(meeting, argument);
    const inFlight = await viewOf(argument);
    assert.equal(holder(inFlight, isHere).argumentCount, 1);
    assert.equal((await viewOf(pending)).state, 'pending');
    await get(meeting.meet(2));
    await pending;
    assert.equal(holder(await viewOf(argument), isHere).argumentCount, 0);
    const outer = put({ inside: argument });
    assert.deepEqual(holder(await viewOf(argument), isHere).capturedIn, [outer.id]);
    const small = put('small');
    const inline = await viewOf(small);
    assert.deepEqual([inline.state, inline.places[0]?.place], ['inline', 'inline']);
    assert.ok(inline.sizeBytes > 0 && inline.sizeBytes < 100);
    await kill(meeting);
  });

  test('what a task put belongs to its worker', async () => {
    const { ref } = await task(nestedLarge)(MIB);
    const view = await viewOf(ref);
    assert.equal(view.owner.name, 'task');
    assert.notEqual(view.owner.pid, process.pid);
    assert.equal(holder(view, isHere).isBorrower, true);
    assert.match(view.callSite ?? '', /user-code\.[jt]s:\d+ \(nestedLarge\)/);
  });

  test('what moved to disk is told with the bytes that each node has there', async () => {
    const refs = Array.from({ length: 12 }, (_, index) => put(noise(10 * MIB, index + 1)));
    await wait(refs, { numReturns: refs.length });
    const { nodes, objects } = await survey();
    const here = nodes.find(({ nodeId }) => nodeId === two.node('here').nodeId)!;
    assert.ok(here.spilledBytes >= 50 * MIB, String(here.spilledBytes));
    assert.equal(here.arenaTotalBytes, STORE_BYTES);
    const ids = new Set<string>(refs.map(({ id }) => id));
    const places = objects.filter(({ objectId }) => ids.has(objectId)).map((object) => object.places[0]?.place);
    assert.ok(places.includes('spilled') && places.includes('arena'), places.join());
    for (const ref of refs) ref.release();
  });

  test('a process that computes is named, and the others answer', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'rl-memory-'));
    try {
      const kept = put(noise(MIB, 5));
      await wait([kept]);
      const busy = shelf.sleepUntil(join(folder, 'go'));
      let view = await survey();
      // The call may not have begun when the first was asked.
      while (view.silentProcesses.length === 0) view = await survey();
      assert.deepEqual(
        view.silentProcesses.map(({ name }) => name),
        ['Shelf'],
      );
      assert.ok(view.objects.some(({ objectId }) => objectId === kept.id));
      assert.match(await raylite('memory'), /No answer from Shelf \(pid \d+ on node \w+\), which is busy/);
      writeFileSync(join(folder, 'go'), '');
      await busy;
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('tables for people: sorted, in groups with totals, and one line an object', async () => {
    const ref = put(noise(3 * MIB, 6));
    const hash = task(sha256Of)(ref);
    await hash;
    const byOwner = await raylite('memory', '--group-by', 'owner', '--sort-by', 'count');
    assert.match(byOwner, /NODE +HOST +ARENA +SPILLED +OBJECTS/);
    assert.match(byOwner, new RegExp(`driver .* pid ${process.pid} on \\w+: \\d+ objects, `));
    assert.match(await raylite('memory', '--group-by', 'call-site'), /memory\.test\.[jt]s:\d+.*: \d+ objects/);
    assert.match(await raylite('memory', '--group-by', 'node'), new RegExp(`node ${two.node('here').nodeId}: `));
    const list = await raylite('list', 'objects');
    const line = list.split('\n').find((row) => row.startsWith(ref.id))!;
    assert.match(line, /stored +3 MiB +arena on /);
  });
});
