// The shared-memory arena: two real processes, hostile arguments, a full file system, nothing left behind.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { crc32 } from 'node:zlib';
import { native } from '#src/native/index.js';
import type { StoreRequest } from './store-peer.js';

const MIB = 1 << 20;
const prefix = `raylite-test-store-${process.pid}-`;
let names = 0;
const freshPath = () => `/dev/shm/${prefix}${names++}`;
const storeError = (pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Error);
  assert.equal((error as Error & { code?: string }).code, 'STORE');
  assert.match(error.message, pattern);
  return true;
};

class Peer implements AsyncDisposable {
  readonly #process: ChildProcess;
  constructor() {
    this.#process = fork(fileURLToPath(new URL('./store-peer.js', import.meta.url)), { execArgv: ['--expose-gc'] });
  }
  async ask(request: StoreRequest): Promise<string> {
    const answered = once(this.#process, 'message');
    this.#process.send(request);
    const [message] = (await answered) as [{ text: string }];
    return message.text;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#process, 'exit');
    this.#process.kill();
    await ended;
  }
}

function withArena<T>(bytes: number, use: (arena: ReturnType<typeof create>, path: string) => T): T {
  const path = freshPath();
  const arena = create(path, bytes);
  const close = () => {
    arena.close();
    assert.equal(existsSync(path), false, 'closing the creator removes the file');
  };
  try {
    const result = use(arena, path);
    if (result instanceof Promise) return result.finally(close) as T;
    close();
    return result;
  } catch (error) {
    arena.close();
    throw error;
  }
}

function create(path: string, bytes: number) {
  return native().createArena({ path, bytes });
}

test('two processes share what either writes', () =>
  withArena(4 * MIB, async (arena, path) => {
    await using peer = new Peer();
    assert.equal(await peer.ask({ kind: 'open', path, bytes: 4 * MIB }), 'open');
    arena.write(8192, [Buffer.from('from the '), Buffer.from('creator')]);
    assert.equal(await peer.ask({ kind: 'read', offset: 8192, length: 16 }), 'from the creator');
    assert.equal(await peer.ask({ kind: 'write', offset: 3 * MIB, text: 'from the peer' }), 'written');
    assert.equal(Buffer.from(arena.readable(3 * MIB, 13, () => {})).toString(), 'from the peer');
    Buffer.from(arena.writable(12288, 5)).write('lease');
    assert.equal(await peer.ask({ kind: 'read', offset: 12288, length: 5 }), 'lease');
  }));

test('a stray write to a readable view changes nothing for others, and forget undoes it', () =>
  withArena(MIB, async (arena, path) => {
    await using peer = new Peer();
    await peer.ask({ kind: 'open', path, bytes: MIB });
    arena.write(100, [Buffer.from('truth')]);
    const checksum = arena.crc32(100, 5);
    assert.equal(await peer.ask({ kind: 'deface', offset: 100, text: 'false' }), 'false');
    assert.equal(Buffer.from(arena.readable(100, 5, () => {})).toString(), 'truth');

    const view = Buffer.from(arena.readable(100, 5, () => {}));
    view.write('mine!');
    assert.equal(arena.crc32(100, 5), checksum, 'the checksum is of what is shared');
    assert.equal(await peer.ask({ kind: 'read', offset: 100, length: 5 }), 'false', 'its own private copy');
    arena.write(100, [Buffer.from('newer')]);
    assert.equal(view.toString(), 'mine!');
    arena.forget(100, 5);
    assert.equal(view.toString(), 'newer');
  }));

test('each view is released once, after it was collected', () =>
  withArena(MIB, async (_arena, path) => {
    await using peer = new Peer();
    await peer.ask({ kind: 'open', path, bytes: MIB });
    assert.equal(await peer.ask({ kind: 'countReleases', offset: 4096, views: 5000 }), '5000');
  }));

test('memory that was asked for ahead is there without anybody writing, and more of it when more is asked for', () =>
  withArena(16 * MIB, async (arena, path) => {
    const reaches = async (bytes: number) => {
      while (statSync(path).blocks * 512 < bytes) await new Promise(setImmediate); // else: the file's time limit
    };
    assert.ok(statSync(path).blocks * 512 < MIB);
    arena.prefault(4 * MIB);
    await reaches(4 * MIB);
    arena.prefault(MIB); // less than there is
    arena.prefault(64 * MIB); // more than there can be
    await reaches(16 * MIB);
    assert.equal(Buffer.from(arena.readable(15 * MIB, 4, () => {})).readUInt32LE(), 0);
  }));

test('a view stays valid after the arena was closed', () => {
  const path = freshPath();
  const arena = create(path, MIB);
  arena.prefault(MIB);
  arena.write(0, [Buffer.from('still here')]);
  const view = Buffer.from(arena.readable(0, 10, () => {}));
  const lease = Buffer.from(arena.writable(0, 10));
  arena.close();
  arena.close();
  assert.equal(view.toString(), 'still here');
  lease.write('S');
  assert.equal(view.toString(), 'Still here');
  assert.throws(() => arena.readable(0, 1, () => {}), storeError(/the arena is closed/));
  assert.throws(() => arena.write(0, []), storeError(/the arena is closed/));
  assert.equal(arena.bytes, MIB);
});

test('regions outside the arena are refused, whatever the numbers', () =>
  withArena(MIB + 1, (arena) => {
    arena.write(MIB, [Buffer.from('x')]);
    assert.equal(arena.readable(MIB + 1, 0, () => {}).byteLength, 0);
    const outside: readonly (readonly [number, number])[] = [
      [MIB, 2],
      [MIB + 2, 0],
      [0, MIB + 2],
      [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
      [1, Number.MAX_SAFE_INTEGER],
    ];
    for (const [offset, length] of outside) {
      assert.throws(
        () => arena.readable(offset, length, () => {}),
        storeError(/not inside the arena of 1048577 bytes/),
      );
      assert.throws(() => arena.writable(offset, length), storeError(/not inside/));
      assert.throws(() => arena.forget(offset, length), storeError(/not inside/));
      assert.throws(() => arena.crc32(offset, length), storeError(/not inside/));
    }
    assert.throws(() => arena.write(MIB, [Buffer.from('a'), Buffer.from('b')]), storeError(/not inside/));
    assert.equal(Buffer.from(arena.readable(MIB, 1, () => {})).toString(), 'x', 'a refused write writes nothing');
    for (const bad of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 60]) {
      assert.throws(() => arena.writable(bad, 1), /RangeError: offset: expected an integer/);
      assert.throws(() => arena.writable(0, bad), /RangeError: length: expected an integer/);
    }
    assert.throws(() => arena.writable('0' as unknown as number, 1), /RangeError/);
    assert.throws(() => arena.readable(0, 1, undefined as unknown as () => void), /onRelease: expected a function/);
    assert.throws(() => arena.write(0, [new Float32Array(1)] as unknown as Uint8Array[]), /parts\[0\]/);
  }));

test('an arena is made only where there is none, and only with room for it', () => {
  const path = freshPath();
  for (const bytes of [0, -1, 1.5, Number.NaN]) assert.throws(() => create(path, bytes), /bytes: expected an integer/);
  assert.throws(() => create(path, Number.MAX_SAFE_INTEGER), storeError(/bytes but its file system has \d+ free/));
  assert.throws(() => create(`/dev/shm/${prefix}missing/arena`, MIB), storeError(/No such file or directory/));
  assert.throws(() => create('/dev/shm/\0', MIB), /path: expected a string/);
  writeFileSync(path, 'taken');
  try {
    assert.throws(() => create(path, MIB), storeError(/File exists/));
    assert.throws(() => native().openArena({ path, bytes: MIB }), storeError(/has 5 bytes, not \d+/));
    const link = freshPath();
    symlinkSync(path, link);
    try {
      assert.throws(
        () => native().openArena({ path: link, bytes: 4 }),
        storeError(/Too many levels of symbolic links/),
      );
    } finally {
      rmSync(link);
    }
  } finally {
    rmSync(path);
  }
  withArena(MIB, (_arena, made) => assert.equal(statSync(made).mode & 0o777, 0o600));
});

test('a full file system is an error, not a crash', (context) => {
  const folder = mkdtempSync(join(tmpdir(), 'raylite-store-'));
  try {
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder], { stdio: 'pipe' });
    } catch {
      context.skip('needs the right to mount a tmpfs');
      return;
    }
    try {
      const first = create(join(folder, 'first'), 768 << 10);
      const second = create(join(folder, 'second'), 768 << 10);
      first.write(0, [new Uint8Array(768 << 10)]);
      assert.throws(
        () => second.write(0, [new Uint8Array(768 << 10)]),
        storeError(/no memory for the region .*No space/),
      );
      assert.throws(() => second.readable(512 << 10, 4, () => {}), storeError(/no memory/));
      second.close();
      first.close();
    } finally {
      execFileSync('umount', ['--lazy', folder]);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('the checksum is that of zlib, at any length and alignment', () =>
  withArena(2 * MIB, (arena) => {
    const bytes = Uint8Array.from({ length: MIB + 77 }, (_, i) => (i * 2654435761) >>> 24);
    arena.write(3, [bytes]);
    for (const length of [...Array(300).keys(), 4095, 65536, MIB + 77]) {
      const expected = crc32(bytes.subarray(0, length));
      assert.equal(arena.crc32(3, length), expected, `length ${length}`);
      assert.equal(native().crc32(bytes.subarray(0, length)), expected, `length ${length}, of any memory`);
    }
  }));

test('large parts arrive whole beside small ones', () =>
  withArena(8 * MIB, (arena) => {
    const parts = [5, 3 * MIB + 1, 0, 7, 2 * MIB].map((length, part) =>
      Uint8Array.from({ length }, (_, i) => i * 31 + part),
    );
    arena.write(1234567, parts);
    const whole = Buffer.concat(parts);
    assert.ok(Buffer.from(arena.readable(1234567, whole.length, () => {})).equals(whole));
  }));

test('nothing is left in /dev/shm', () => {
  assert.deepEqual(
    readdirSync('/dev/shm').filter((name) => name.startsWith(prefix)),
    [],
  );
});

test('an object that is pinned stays; one that was revoked cannot be pinned', () =>
  withArena(4 * MIB, (arena, path) => {
    const other = native().openArena({ path, bytes: 4 * MIB });
    arena.publish(4096, 7, 1);
    assert.equal(other.pin(4096, 7, 2, 5), false, 'another object is there');
    assert.equal(arena.revoke(4096, 7, 1), true, 'a failed pin leaves no trace');
    arena.publish(4096, 7, 2);
    assert.equal(other.pin(4096, 7, 2, 5), true);
    assert.equal(other.pin(4096, 7, 2, 383), true);
    assert.equal(arena.revoke(4096, 7, 2), false);
    arena.unpin(4096, 5);
    assert.equal(arena.revoke(4096, 7, 2), false, 'another still reads it');
    other.unpin(4096, 383);
    assert.equal(arena.revoke(4096, 7, 2), true);
    assert.equal(other.pin(4096, 7, 2, 5), false);
    assert.throws(() => other.pin(4096, 7, 2, 384), RangeError);
    assert.throws(() => other.pin(4 * MIB, 7, 2, 0), storeError(/not inside the arena/));
    other.close();
  }));

test('parts of the arena go to a file and are mapped from there, if every byte is right', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'raylite-test-spill-'));
  try {
    await withArena(16 * MIB, async (arena) => {
      const contents = [Buffer.alloc(9 * MIB + 1, 'one'), Buffer.alloc(5000, 'two')];
      arena.write(4096, [contents[0]!]);
      arena.write(12 * MIB, [contents[1]!]);
      const path = join(folder, 'parts');
      const file = await open(path, 'wx', 0o600);
      const parts = [
        { offset: 4096, size: contents[0]!.length, at: 0 },
        { offset: 12 * MIB, size: contents[1]!.length, at: 10 * MIB },
      ];
      const checksums = await arena.spill(file.fd, parts);
      await file.close();
      assert.deepEqual(
        checksums,
        contents.map((content) => crc32(content)),
      );
      let released = 0;
      const map = (index: number, crc = checksums[index]!): Promise<ArrayBuffer> =>
        native().mapFile({ path, at: parts[index]!.at, bytes: parts[index]!.size, crc }, () => {
          released += 1;
        });
      const views = [await map(0), await map(1)];
      for (const [index, content] of contents.entries()) assert.ok(content.equals(Buffer.from(views[index]!)));
      Buffer.from(views[1]!).fill(0); // a stray write changes nothing for others
      assert.ok(contents[1]!.equals(Buffer.from(await map(1))));

      await assert.rejects(map(0, 7), storeError(/damaged/));
      truncateSync(path, 10 * MIB + 4096);
      await assert.rejects(map(1), storeError(/ends before/));
      rmSync(path);
      await assert.rejects(map(0), storeError(/cannot open/));
      assert.ok(contents[0]!.equals(Buffer.from(views[0]!)), 'what is mapped stays when the file goes');
      assert.equal(released, 0);
      await assert.rejects(arena.spill(9999, parts), storeError(/no room|cannot write/));
      assert.throws(() => arena.spill(1, [{ offset: 15 * MIB, size: 2 * MIB, at: 0 }]), storeError(/not inside/));
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('what is set aside comes into the arena as it was', () =>
  withArena(4 * MIB, (arena) => {
    const aside = new (native().NativeAside)();
    const content = Buffer.alloc(3 * MIB, 'aside');
    aside.set(3 * MIB + 64, [
      { at: 0, bytes: Buffer.from('head') },
      { at: 64, bytes: content },
    ]);
    content.fill(0);
    arena.writeAside(4096, aside);
    const bytes = Buffer.from(arena.readable(4096, 3 * MIB + 64, () => {}));
    assert.equal(bytes.subarray(0, 4).toString(), 'head');
    assert.ok(bytes.subarray(64).equals(Buffer.alloc(3 * MIB, 'aside')));
    aside.set(5, [{ at: 0, bytes: Buffer.from('small') }]);
    arena.writeAside(0, aside);
    assert.equal(Buffer.from(arena.readable(0, 5, () => {})).toString(), 'small');
    assert.throws(() => aside.set(4, [{ at: 2, bytes: Buffer.from('long') }]), /ends behind/);
    aside.free();
    assert.throws(() => arena.writeAside(0, aside), storeError(/freed/));
    assert.throws(() => arena.writeAside(0, {} as never), /NativeAside/);
  }));
