// More objects than the store has room for: they move to disk and come back, and nothing of them stays behind.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Cluster,
  get,
  init,
  ObjectLostError,
  ObjectReconstructionFailedError,
  type ObjectRef,
  OutOfDiskError,
  put,
  StoreFullError,
  task,
  wait,
} from '#src/client/index.js';
import { noise, sha256Of, sumOf } from './support/user-code.js';

const MIB = 1024 * 1024;
const STORE_BYTES = 64 * MIB;

/** Files below a folder. */
const pathsIn = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));
const filesIn = (folder: string): string[] => pathsIn(folder).map((path) => basename(path));

function writeAt(path: string, at: number, change: (byte: number) => number): void {
  const file = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, at);
  writeSync(file, Buffer.from([change(byte[0]!)]), 0, 1, at);
  closeSync(file);
}

describe('a store of 64 MiB', () => {
  const folder = mkdtempSync(join(tmpdir(), 'rl-spill-'));
  let cluster: Cluster;
  before(async () => {
    process.env.RAYLITE_SPILL_DIR = folder;
    process.env.RAYLITE_SPILL_KEEP_SECONDS = '0';
    cluster = await init({ numCpus: 2, objectStoreMemory: STORE_BYTES, logToDriver: false });
    delete process.env.RAYLITE_SPILL_DIR;
    delete process.env.RAYLITE_SPILL_KEEP_SECONDS;
  });
  after(async () => {
    await cluster[Symbol.asyncDispose]();
    assert.deepEqual(readdirSync(folder), []);
    rmSync(folder, { recursive: true });
  });

  test('holds 300 MiB of what was put, in any order of reading', async () => {
    const refs = Array.from({ length: 30 }, (_, index) => put(noise(10 * MIB, index + 1)));
    await wait(refs, { numReturns: refs.length });
    assert.ok(filesIn(folder).length > 0, 'some of it is on disk');
    for (const index of [0, 29, 15, 1, 0, 28])
      assert.ok(Buffer.from(await refs[index]!).equals(Buffer.from(noise(10 * MIB, index + 1))), `object ${index}`);
    // All at once is more than the store could ever hold.
    const all = await get(refs);
    all.forEach((bytes, index) => {
      assert.ok(Buffer.from(bytes).equals(Buffer.from(noise(10 * MIB, index + 1))), `object ${index} of all`);
    });
    for (const ref of refs) ref.release();
    while (filesIn(folder).length > 0) await sleep(10);
  });

  test('holds 300 MiB of results that tasks made', async () => {
    const refs = Array.from({ length: 60 }, (_, index) => task(noise)(5 * MIB, index + 1));
    await wait(refs, { numReturns: refs.length });
    for (const index of [0, 59, 30]) assert.equal(sha256Of(await refs[index]!), sha256Of(noise(5 * MIB, index + 1)));
    for (const ref of refs) ref.release();
    while (filesIn(folder).length > 0) await sleep(10);
  });

  for (const [name, damage] of [
    ['one flipped bit', (path: string) => writeAt(path, Math.floor(statSync(path).size / 3), (byte) => byte ^ 0x10)],
    ['a torn end', (path: string) => truncateSync(path, 5 * MIB)],
  ] as const)
    test(`never gives bytes that the disk has damaged: ${name}`, async () => {
      const kept = Array.from({ length: 9 }, (_, index) => put(noise(10 * MIB, index + 1)));
      const made = Array.from({ length: 9 }, (_, index) => task(noise)(10 * MIB, index + 1));
      await wait([...kept, ...made], { numReturns: kept.length + made.length });
      const files = pathsIn(folder);
      assert.ok(files.length > 2);
      for (const path of files) damage(path);
      let lostCount = 0;
      for (const [index, ref] of kept.entries()) {
        const bytes = await get(ref).catch((error: unknown) => {
          assert.ok(
            error instanceof ObjectLostError || error instanceof ObjectReconstructionFailedError,
            String(error),
          );
          lostCount += 1;
          return null;
        });
        if (bytes) assert.ok(Buffer.from(bytes).equals(Buffer.from(noise(10 * MIB, index + 1))), `object ${index}`);
      }
      assert.ok(lostCount > 0, 'what was put and is damaged is lost');
      for (const [index, ref] of made.entries())
        assert.equal(sha256Of(await get(ref)), sha256Of(noise(10 * MIB, index + 1)), 'what a task made is made again');
      for (const ref of [...kept, ...made]) ref.release();
    });

  test('fuses small objects into few files', async () => {
    const refs: ObjectRef<Uint8Array>[] = [];
    for (let index = 0; index < 800; index += 1) refs.push(put(noise(200 * 1024, index + 1)));
    await wait(refs, { numReturns: refs.length });
    const files = filesIn(folder).length;
    assert.ok(files > 0 && files < 40, `${files} files`);
    assert.ok(Buffer.from(await refs[0]!).equals(Buffer.from(noise(200 * 1024, 1))));
    for (const ref of refs) ref.release();
    while (filesIn(folder).length > 0) await sleep(10);
  });

  test('begins to move objects before it is full', async () => {
    const refs = Array.from({ length: 5 }, (_, index) => put(noise(10 * MIB, index + 1)));
    await wait(refs, { numReturns: refs.length });
    // With two more of 1 MiB there is still room for ten.
    refs.push(put(noise(MIB, 9)), put(noise(MIB, 9)));
    while (filesIn(folder).length === 0) await sleep(1);
    for (const [index, ref] of refs.slice(0, 5).entries())
      assert.ok(Buffer.from(await ref).equals(Buffer.from(noise(10 * MIB, index + 1))), `object ${index}`);
    for (const ref of refs) ref.release();
    while (filesIn(folder).length > 0) await sleep(10);
  });

  test('gives what is on disk to other processes', async () => {
    const refs = Array.from({ length: 12 }, (_, index) => put(noise(10 * MIB, index + 1)));
    await wait(refs, { numReturns: refs.length });
    const sums = await get(refs.map((ref) => task(sha256Of)(ref)));
    assert.deepEqual(
      sums,
      refs.map((_, index) => sha256Of(noise(10 * MIB, index + 1))),
    );
  });
});

test('files whose objects are gone take those that come next; not while somebody reads what they held', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'rl-spill-'));
  process.env.RAYLITE_SPILL_DIR = folder;
  try {
    await using cluster = await init({ numCpus: 1, objectStoreMemory: STORE_BYTES, logToDriver: false });
    assert.ok(cluster.isEmbedded);
    const views: Uint8Array[] = [];
    const numbers = new Set<number>();
    for (let round = 0; round < 6; round += 1) {
      const refs = Array.from({ length: 10 }, (_, index) => put(noise(10 * MIB, 10 * round + index + 1)));
      await wait(refs, { numReturns: refs.length });
      views.push(await refs[0]!); // the one that went to disk first
      for (const name of filesIn(folder)) numbers.add(Number(name));
      for (const ref of refs) ref.release();
    }
    for (const [round, view] of views.entries())
      assert.ok(Buffer.from(view).equals(Buffer.from(noise(10 * MIB, 10 * round + 1))), `the view of round ${round}`);
    // Each round writes at least four files; one a round stays as it is.
    assert.ok(numbers.size <= 18, `${numbers.size} files were made`);
  } finally {
    delete process.env.RAYLITE_SPILL_DIR;
    rmSync(folder, { recursive: true });
  }
});

test('leaves alone what is being read, and says so when that is all there is', async () => {
  await using cluster = await init({ numCpus: 1, objectStoreMemory: STORE_BYTES, logToDriver: false });
  assert.ok(cluster.isEmbedded);
  const value = await put(new Float32Array(12 * MIB).fill(1));
  const refused = put(new Uint8Array(40 * MIB));
  await assert.rejects(get(refused), (error: unknown) => {
    assert.ok(error instanceof StoreFullError);
    assert.equal(error.requestedBytes >= 40 * MIB, true);
    assert.equal(error.capacityBytes, STORE_BYTES);
    return true;
  });
  assert.equal(sumOf(value), 12 * MIB);
  await assert.rejects(get(put(new Uint8Array(STORE_BYTES))), /cut the value into several/);
});

test('what nobody holds any more goes, from the store and from disk; a ref inside a kept value keeps its target', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'rl-spill-'));
  process.env.RAYLITE_SPILL_DIR = folder;
  process.env.RAYLITE_SPILL_KEEP_SECONDS = '0';
  try {
    await using cluster = await init({ numCpus: 1, objectStoreMemory: STORE_BYTES, logToDriver: false });
    assert.ok(cluster.isEmbedded);
    const bytes = noise(10 * MIB, 1);
    const kept = put({ inside: put(bytes) });
    {
      using disposed = put(bytes);
      await wait([disposed]);
    }
    for (let index = 0; index < 20; index += 1) await wait([put(bytes)]);
    // Each put asks for room, and so for what can be let go of; at most what is kept stays on disk.
    while (filesIn(folder).length > 1) await wait([put(bytes)]);
    assert.ok(Buffer.from(await (await kept).inside).equals(Buffer.from(bytes)));
  } finally {
    delete process.env.RAYLITE_SPILL_DIR;
    delete process.env.RAYLITE_SPILL_KEEP_SECONDS;
    rmSync(folder, { recursive: true });
  }
});

const canMount = ((): boolean => {
  try {
    execFileSync('unshare', ['-m', 'true'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

test('a full disk is an error that names it; what is there stays readable', {
  skip: !canMount && 'needs root',
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'rl-spill-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', folder]);
  try {
    process.env.RAYLITE_SPILL_DIR = folder;
    await using cluster = await init({ numCpus: 1, objectStoreMemory: STORE_BYTES, logToDriver: false });
    assert.ok(cluster.isEmbedded);
    const kept = Array.from({ length: 6 }, (_, index) => put(noise(10 * MIB, index + 1)));
    await wait(kept, { numReturns: kept.length });
    await assert.rejects(get(put(noise(30 * MIB, 9))), (error: unknown) => {
      assert.ok(error instanceof OutOfDiskError);
      assert.ok(error.folder.startsWith(folder), error.folder);
      return true;
    });
    for (const [index, ref] of kept.entries()) assert.equal(sha256Of(await ref), sha256Of(noise(10 * MIB, index + 1)));
  } finally {
    delete process.env.RAYLITE_SPILL_DIR;
    execFileSync('umount', ['-l', folder]); // what was read from there is mapped until it is collected
    rmSync(folder, { recursive: true });
  }
});
