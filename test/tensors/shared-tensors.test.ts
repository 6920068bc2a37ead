// Tensors between actors: on one emulated GPU the very memory, elsewhere a copy; kept as long as somebody holds it, gone with its process.
import assert from 'node:assert/strict';
import { readdirSync, readlinkSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type ActorHandle,
  actor,
  type Cluster,
  get,
  init,
  kill,
  ObjectLostError,
  OwnerDiedError,
} from '#src/client/index.js';
import { EMULATED } from '../support/devices.js';
import { Maker, Taker } from './actors.js';

let cluster: Cluster;
before(async () => {
  process.env.RAYLITE_CUDA_LIBRARY = EMULATED; // what is started from here has it too
  cluster = await init({ address: 'local', numCpus: 4, numGpus: 2 });
});
after(async () => {
  await cluster[Symbol.asyncDispose]();
  delete process.env.RAYLITE_CUDA_LIBRARY;
});

const GPU = { kind: 'cuda' } as const;
const HALF = { cpus: 0, gpus: 0.5 };

/** Two actors on one GPU. */
async function neighbours(): Promise<[ActorHandle<Maker>, ActorHandle<Taker>]> {
  const maker = await actor(Maker, HALF).create(GPU);
  return [maker, await actor(Taker, HALF).create(GPU)];
}

const causedBy =
  (kind: typeof ObjectLostError | typeof OwnerDiedError) =>
  (error: unknown): boolean =>
    error instanceof Error && error.cause instanceof kind;

/** How many memories of its device a process shares: emulated ones are files without a name. */
const sharedBy = (pid: number): number =>
  readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`).includes('emulated device memory');
    } catch {
      return false; // closed meanwhile
    }
  }).length;

async function sharedBecomes(pid: number, count: number): Promise<void> {
  while (sharedBy(pid) !== count) await sleep(10);
}

test('two actors on one GPU have the same memory, which goes when the last of them lets go', async () => {
  const [maker, taker] = await neighbours();
  const pid = await maker.pid();
  const tensor = maker.make(5, 3, true);
  assert.deepEqual(await taker.open(tensor), { route: 'ipc', reason: null });
  assert.deepEqual(await taker.values(), [5, 6, 7]);
  await taker.set(40);
  assert.equal(await maker.first(), 40); // no copy

  const unkept = maker.make(1, 2);
  const { ref } = await unkept;
  assert.equal(sharedBy(pid), 2);
  ref.release();
  await sharedBecomes(pid, 1);
  await assert.rejects(get(taker.open(unkept)), causedBy(ObjectLostError));
  for (const each of [maker, taker]) await kill(each);
});

test('a tensor that its taker has closed can be freed, and its bytes can be had without a device', async () => {
  const [maker, taker] = await neighbours();
  const pid = await maker.pid();
  const made = maker.make(7, 30_000);
  const { ref, dims, dtype } = await made;
  assert.deepEqual([dims, dtype], [[30_000], 'f32']);
  assert.equal(await taker.openNested({ tensor: made }), 'ipc');
  const bytes = await get(ref);
  assert.deepEqual([...new Float32Array(bytes.slice().buffer)].slice(0, 2), [7, 8]);
  assert.equal(bytes.length, 120_000);
  ref.release();
  assert.equal((await taker.values()).length, 30_000); // still the taker's
  assert.equal(sharedBy(pid), 1);
  await taker.close();
  await sharedBecomes(pid, 0);
  for (const each of [maker, taker]) await kill(each);
});

test('on another GPU, and on a CPU, a tensor is a copy, and why is said', async () => {
  const maker = await actor(Maker, { cpus: 0, gpus: 1 }).create(GPU);
  const other = await actor(Taker, { cpus: 0, gpus: 1 }).create(GPU);
  const cpu = await actor(Taker, { cpus: 1 }).create({ threads: 1 });
  for (const taker of [other, cpu]) {
    const { route, reason } = await taker.open(maker.make(3, 2));
    assert.equal(route, 'host');
    assert.match(reason ?? '', /^it lies on GPU 0000:0[12]:00\.0 of machine \S+, not (GPU|process)/);
    assert.deepEqual(await taker.values(), [3, 4]);
    await taker.close();
  }
  const cpuMaker = await actor(Maker, { cpus: 1 }).create({ threads: 1 });
  assert.equal((await cpu.open(cpuMaker.make(9, 2))).route, 'host');
  assert.deepEqual(await cpu.values(), [9, 10]);
  assert.equal(await cpuMaker.ownRoute(), 'reference');
  for (const each of [maker, other, cpu, cpuMaker]) await kill(each);
});

test('a tensor ends with the process that shared it', async () => {
  const [maker, taker] = await neighbours();
  const tensor = await maker.make(1, 2);
  await kill(maker);
  await assert.rejects(get(taker.open(tensor)), causedBy(OwnerDiedError));
  await kill(taker);
});

test('a tensor that does not lie in its buffer is refused by name', async () => {
  const [maker, taker] = await neighbours();
  assert.match(
    await maker.misplaced(),
    /tensor: expected 64 bytes inside of a buffer of 64, got 4.*f32\[4,4\] begins at that byte/,
  );
  assert.equal(await maker.ownRoute(), 'reference');
  for (const each of [maker, taker]) await kill(each);
});
