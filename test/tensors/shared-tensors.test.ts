// Tensors between actors: on one emulated GPU the very memory, elsewhere a copy; kept as long as somebody holds it, gone with its process.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
import { Maker, Taker, Trader } from './actors.js';

let cluster: Cluster;
const folder = mkdtempSync(join(tmpdir(), 'raylite-tensors-'));
const copies = join(folder, 'copies');
before(async () => {
  process.env.RAYLITE_CUDA_LIBRARY = EMULATED; // what is started from here has it too
  process.env.RAYLITE_EMULATED_COPIES = copies;
  // Emulated GPUs 0 and 1 reach each other's memory, 2 reaches neither's.
  cluster = await init({ address: 'local', numCpus: 4, numGpus: 3 });
});
after(async () => {
  await cluster[Symbol.asyncDispose]();
  delete process.env.RAYLITE_CUDA_LIBRARY;
  delete process.env.RAYLITE_EMULATED_COPIES;
  rmSync(folder, { recursive: true });
});

/** Bytes that all emulated GPUs have copied since, by way, in copies of at least a large tensor. */
async function copiedIn(work: () => Promise<unknown>): Promise<Readonly<Record<string, number>>> {
  writeFileSync(copies, '');
  await work();
  const sums: Record<string, number> = {};
  for (const line of readFileSync(copies, 'utf8').split('\n').filter(Boolean)) {
    const [way, bytes] = line.split(' ') as [string, string];
    if (Number(bytes) >= LARGE * 4) sums[way] = (sums[way] ?? 0) + Number(bytes);
  }
  return sums;
}

/** Numbers of a tensor that stands out among copies. */
const LARGE = 50_000;

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

/** Actors on GPUs of their own, in the order of the GPUs. */
async function onThreeGpus(): Promise<[ActorHandle<Trader>, ActorHandle<Trader>, ActorHandle<Trader>]> {
  const actors = [1, 2, 3].map(() => actor(Trader, { cpus: 0, gpus: 1 }).create(GPU));
  const placed = await Promise.all(actors.map(async (each) => [await (await each).place(), await each] as const));
  return placed.toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, each]) => each) as never;
}

test('on another GPU that reaches the memory a tensor is copied past the host', async () => {
  const [maker, taker, far] = await onThreeGpus();
  const tensor = maker.make(3, LARGE);
  await tensor;
  const sums = await copiedIn(async () => {
    const { route, reason } = await taker.open(tensor);
    assert.equal(route, 'peer');
    assert.match(reason ?? '', /^it lies on GPU 0000:01:00\.0 of machine \S+, not GPU 0000:02:00\.0/);
  });
  assert.deepEqual(sums, { device: 4 * LARGE });
  assert.deepEqual((await taker.values()).slice(0, 2), [3, 4]);
  await taker.close();
  for (const each of [maker, taker, far]) await kill(each);
});

test('GPUs that cannot reach each other pass tensors by NCCL, over one group however many', async () => {
  const [maker, near, taker] = await onThreeGpus();
  const pid = await maker.pid();
  for (const first of [7, 8]) {
    const tensor = maker.make(first, LARGE);
    const { ref } = await tensor;
    const sums = await copiedIn(async () => {
      const { route, reason } = await taker.open(tensor);
      assert.equal(route, 'nccl', reason ?? '');
      assert.match(reason ?? '', /not GPU 0000:03:00\.0 .*: cudaIpcOpenMemHandle.*peer access is not supported/);
    });
    assert.deepEqual(sums, { nccl: 4 * LARGE });
    assert.deepEqual((await taker.values()).slice(0, 2), [first, first + 1]);
    await taker.close();
    ref.release();
    await sharedBecomes(pid, 0);
  }
  const many = [1, 2, 3, 4].map((first) => maker.make(first, LARGE));
  assert.deepEqual(await taker.firsts(many), [1, 2, 3, 4]); // at once
  for (const each of [maker, near, taker]) await kill(each);
});

test('a process that dies while it should send a tensor is named by the error', async () => {
  const [maker, near, taker] = await onThreeGpus();
  const [first, second] = [maker.make(7, LARGE), maker.make(8, LARGE)];
  assert.equal((await taker.open(first)).route, 'nccl'); // they have a group
  await taker.close();
  await second;
  const pid = await maker.pid();
  process.kill(pid, 'SIGSTOP');
  const opening = get(taker.open(second));
  await sleep(50); // it waits for what does not come
  process.kill(pid, 'SIGKILL');
  await assert.rejects(opening, causedBy(OwnerDiedError));
  for (const each of [near, taker]) await kill(each);
});

test('on a CPU a tensor comes by way of the host, and why is said', async () => {
  const maker = await actor(Maker, { cpus: 0, gpus: 1 }).create(GPU);
  const cpu = await actor(Taker, { cpus: 1 }).create({ threads: 1 });
  const { route, reason } = await cpu.open(maker.make(3, 2));
  assert.equal(route, 'host');
  assert.match(reason ?? '', /^it lies on GPU 0000:0\d:00\.0 of machine \S+, not process/);
  assert.deepEqual(await cpu.values(), [3, 4]);
  await cpu.close();
  const cpuMaker = await actor(Maker, { cpus: 1 }).create({ threads: 1 });
  assert.equal((await cpu.open(cpuMaker.make(9, 2))).route, 'host');
  assert.deepEqual(await cpu.values(), [9, 10]);
  assert.equal(await cpuMaker.ownRoute(), 'reference');
  for (const each of [maker, cpu, cpuMaker]) await kill(each);
});

test('a tensor ends with the process that shared it', async () => {
  const [maker, taker] = await neighbours();
  const tensor = await maker.make(1, 2);
  const pid = await maker.pid();
  await kill(maker);
  while (existsSync(`/proc/${pid}`)) await sleep(10); // as long as it lives, so does its memory
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
