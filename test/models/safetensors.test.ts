// Hostile and broken safetensors files: each is refused with its name and what is wrong, before memory is taken for it.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { DataError } from '#src/common/index.js';
import { SafetensorsFile, writeSafetensors } from '#src/models/index.js';

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'safetensors-'));
});
after(() => rm(folder, { recursive: true, force: true }));

/** A file with this header text and this many bytes of data. */
async function fileWith(header: string | Buffer, dataBytes: number, headerLength?: bigint): Promise<string> {
  const text = Buffer.from(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(headerLength ?? BigInt(text.length));
  const path = join(folder, 'file.safetensors');
  await writeFile(path, Buffer.concat([length, text, Buffer.alloc(dataBytes)]));
  return path;
}

const entry = (dtype: string, shape: readonly unknown[], begin: number, end: number) => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

const HOSTILE: Readonly<
  Record<string, readonly [header: string | Buffer, dataBytes: number, message: RegExp, length?: bigint]>
> = {
  'a header of 2^64 - 1 bytes': ['{}', 0, /header of 18446744073709551615 bytes/, 2n ** 64n - 1n],
  'a header longer than the file': ['{}  ', 0, /ends behind the file/, 4096n],
  'a header that is no object': ['[1, 2]  ', 0, /does not start with "\{"/],
  'a pickle under another name': [Buffer.from('80049503000000000000004b012e', 'hex'), 16, /does not start with "\{"/],
  'a header that is not JSON': ['{"a": }  ', 0, /not JSON/],
  'a header that is not UTF-8': [Buffer.from('7b22ff223a317d20', 'hex'), 0, /not JSON/],
  'a name twice': [
    `{"a": ${JSON.stringify(entry('F32', [1], 0, 4))}, "a": ${JSON.stringify(entry('F32', [1], 4, 8))}}`,
    8,
    /a: appears twice/,
  ],
  'a negative dim': [JSON.stringify({ a: entry('F32', [-1], 0, 4) }), 4, /a: has a malformed header/],
  'a dim that is no number': [JSON.stringify({ a: entry('F32', ['1'], 0, 4) }), 4, /a: has a malformed header/],
  'dims whose product overflows': [
    JSON.stringify({ a: entry('F32', [2 ** 40, 2 ** 40], 0, 4) }),
    4,
    /a: takes bytes 0\.\.4, but/,
  ],
  'an unknown dtype': [JSON.stringify({ a: entry('Q3', [1], 0, 4) }), 4, /a: has the unknown dtype Q3/],
  'a range that does not fit the shape': [JSON.stringify({ a: entry('F32', [2], 0, 4) }), 4, /F32 \[2\] has 8/],
  'a range that runs backwards': [JSON.stringify({ a: entry('F32', [0], 4, 0) }), 4, /a: takes bytes 4\.\.0/],
  'two tensors that overlap': [
    JSON.stringify({ a: entry('F32', [2], 0, 8), b: entry('F32', [1], 4, 8) }),
    8,
    /b: overlaps/,
  ],
  'a hole between tensors': [
    JSON.stringify({ a: entry('F32', [1], 0, 4), b: entry('F32', [1], 8, 12) }),
    12,
    /b: leaves a gap/,
  ],
  'data past the end of the file': [
    JSON.stringify({ a: entry('F32', [4], 0, 16) }),
    8,
    /has 8 bytes of data, its header says 16/,
  ],
  'data that nobody names': [
    JSON.stringify({ a: entry('F32', [1], 0, 4) }),
    8,
    /has 8 bytes of data, its header says 4/,
  ],
  'metadata that is not text': [JSON.stringify({ __metadata__: { a: 1 } }), 0, /__metadata__: must map strings/],
  'a field that nobody knows': [
    JSON.stringify({ a: { ...entry('F32', [1], 0, 4), extra: 1 } }),
    4,
    /a: has a malformed header/,
  ],
};

for (const [name, [header, dataBytes, message, length]] of Object.entries(HOSTILE)) {
  test(`${name} is refused`, async () => {
    const path = await fileWith(header, dataBytes, length);
    await assert.rejects(SafetensorsFile.open(path), (error) => {
      assert.ok(error instanceof DataError);
      assert.match(error.message, message);
      assert.ok(error.message.includes(path));
      return true;
    });
  });
}

test('a file of a few bytes and a file that does not exist are refused', async () => {
  const path = await fileWith('{}', 0);
  await truncate(path, 5);
  await assert.rejects(SafetensorsFile.open(path), /too short/);
  await assert.rejects(SafetensorsFile.open(join(folder, 'nowhere')), /cannot be opened/);
});

test('integers are not read as floats', async () => {
  await using file = await SafetensorsFile.open(await fileWith(JSON.stringify({ a: entry('I64', [1], 0, 8) }), 8));
  await assert.rejects(file.readFloats('a'), /a: has dtype I64/);
  await assert.rejects(file.readFloats('b'), /holds no tensor b/);
});

test('what is written is read again, bit by bit', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(fc.string({ minLength: 1, maxLength: 12 }), { maxLength: 6 }),
      fc.array(fc.float({ noNaN: true }), { minLength: 6, maxLength: 6 }),
      async (names, values) => {
        const clean = names.filter((name) => name !== '__metadata__');
        const path = join(folder, 'round.safetensors');
        const tensors = clean.map((name, index) => ({
          name,
          shape: [index + 1],
          read: () => Float32Array.from(values.slice(0, index + 1)),
        }));
        await writeSafetensors(path, tensors);
        await using file = await SafetensorsFile.open(path);
        assert.deepEqual([...file.tensors.keys()].sort(), [...clean].sort());
        for (const { name, read } of tensors) assert.deepEqual(await file.readFloats(name), read());
        assert.equal((await readFile(path)).readBigUInt64LE() % 8n, 0n);
      },
    ),
    { numRuns: 30 },
  );
});

test('16-bit floats are widened exactly', async () => {
  const halves: readonly (readonly [bits: number, value: number])[] = [
    [0x0000, 0],
    [0x8000, -0],
    [0x3c00, 1],
    [0xc000, -2],
    [0x7bff, 65504],
    [0x0400, 2 ** -14],
    [0x0001, 2 ** -24],
    [0x03ff, 1023 * 2 ** -24],
    [0x8201, -513 * 2 ** -24],
    [0x7c00, Number.POSITIVE_INFINITY],
    [0xfc00, Number.NEGATIVE_INFINITY],
    [0x7e00, Number.NaN],
  ];
  const path = await fileWith(JSON.stringify({ a: entry('F16', [halves.length], 0, 2 * halves.length) }), 0);
  const data = Buffer.from(Uint16Array.from(halves, ([bits]) => bits).buffer);
  await writeFile(path, Buffer.concat([await readFile(path), data]));
  await using file = await SafetensorsFile.open(path);
  assert.deepEqual(
    await file.readFloats('a'),
    Float32Array.from(halves, ([, value]) => value),
  );
});
