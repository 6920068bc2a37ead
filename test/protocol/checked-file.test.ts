// Files with checksums: what is written comes back, whatever its size; short files and failures are told, with nothing under way.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { crc32 } from 'node:zlib';
import { readChecked, writeChecked } from '#src/protocol/index.js';

const MIB = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), 'raylite-checked-'));
after(() => rmSync(folder, { recursive: true, force: true }));

let file: FileHandle;
before(async () => {
  file = await open(join(folder, 'file'), 'w+');
});
after(() => file.close());

const drawn = (bytes: number): Uint8Array => Uint8Array.from({ length: bytes }, (_, at) => (at * 2_654_435_761) >>> 13);

test('bytes of any size come back from where they were written, with their checksum', async () => {
  for (const size of [0, 1, 4096, 4 * MIB - 1, 4 * MIB, 13 * MIB + 5]) {
    const bytes = drawn(size);
    assert.equal(await writeChecked(file, bytes, 4096), crc32(bytes), `${size} written`);
    const into = new Uint8Array(size);
    assert.equal(await readChecked(file, into, 4096), crc32(bytes), `${size} read`);
    assert.ok(Buffer.from(into).equals(bytes), `${size} bytes`);
  }
});

test('a file that ends before is null, and its bytes so far are there', async () => {
  const bytes = drawn(9 * MIB);
  await file.truncate(0);
  await writeChecked(file, bytes, 0);
  const into = new Uint8Array(10 * MIB);
  assert.equal(await readChecked(file, into, 0), null);
  assert.ok(Buffer.from(into.buffer, 0, 8 * MIB).equals(bytes.subarray(0, 8 * MIB)));
});

test('a failure is the rejection, once', async () => {
  const unhandled: unknown[] = [];
  const hear = (reason: unknown): void => void unhandled.push(reason);
  process.on('unhandledRejection', hear);
  const readOnly = await open(join(folder, 'file'), 'r');
  await assert.rejects(writeChecked(readOnly, drawn(13 * MIB), 0), { code: 'EBADF' });
  await readOnly.close();
  await new Promise((resolve) => setImmediate(resolve));
  process.off('unhandledRejection', hear);
  assert.deepEqual(unhandled, []);
});
