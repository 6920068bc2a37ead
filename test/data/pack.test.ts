// Packing: rows hold every sequence once, labels never cross documents, the stream is the same whoever asks.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { layOutRows, packEpoch, RowStream, sizesOf, type TokenShard, trainedTokens } from '#src/data/index.js';

const T = 16;
const lengthsArbitrary = fc.array(fc.integer({ min: 1, max: T }), { minLength: 1, maxLength: 60 });

/** Sequences of the given lengths; token t of sequence s is 100 * s + t, the second half is trained. */
function shardOf(lengths: readonly number[], firstSequence = 0): TokenShard {
  const offsets = Int32Array.from([
    0,
    ...lengths.map((_length, index) => lengths.slice(0, index + 1).reduce((a, b) => a + b)),
  ]);
  const tokens = lengths.flatMap((length, index) =>
    Array.from({ length }, (_u, at) => 100 * (firstSequence + index) + at),
  );
  const isTrained = lengths.flatMap((length) => Array.from({ length }, (_u, at) => (at >= length / 2 ? 1 : 0)));
  return {
    tokens: Int32Array.from(tokens),
    isTrained: Uint8Array.from(isTrained),
    offsets,
    records: new Int32Array(offsets.length - 1),
    truncated: 0,
    skipped: 0,
  };
}

test('every sequence is in exactly one row and no row is longer than T, for any lengths', () => {
  fc.assert(
    fc.property(lengthsArbitrary, fc.nat(), fc.nat(5), (lengths, seed, epoch) => {
      const { sequences, rowStarts } = packEpoch(lengths, T, seed, epoch);
      assert.deepEqual(
        [...sequences].sort((a, b) => a - b),
        lengths.map((_length, index) => index),
      );
      for (let row = 0; row + 1 < rowStarts.length; row += 1) {
        const inRow = sequences.subarray(rowStarts[row], rowStarts[row + 1]);
        assert.ok(inRow.reduce((sum, sequence) => sum + lengths[sequence]!, 0) <= T);
      }
    }),
  );
});

test('each sequence goes to the fullest row with room, as a search through all rows would choose', () => {
  fc.assert(
    fc.property(lengthsArbitrary, (lengths) => {
      const rooms: number[] = [];
      for (const length of [...lengths].sort((a, b) => b - a)) {
        const best = rooms.reduce(
          (at, room, index) => (room >= length && (at < 0 || room < rooms[at]!) ? index : at),
          -1,
        );
        if (best < 0) rooms.push(T - length);
        else rooms[best]! -= length;
      }
      assert.equal(packEpoch(lengths, T, 1, 0).rowStarts.length - 1, rooms.length);
    }),
  );
});

test('epochs differ in order and not in the number of rows; the same seed and epoch give the same rows', () => {
  const lengths = Array.from({ length: 50 }, (_u, index) => 1 + ((index * 7) % T));
  const first = packEpoch(lengths, T, 5, 0);
  assert.deepEqual(packEpoch(lengths, T, 5, 0), first);
  const second = packEpoch(lengths, T, 5, 1);
  assert.notDeepEqual(second.sequences, first.sequences);
  assert.equal(second.rowStarts.length, first.rowStarts.length);
});

test('labels are the next token of the same sequence, where it is trained; padding is segments of one', () => {
  const shards = [shardOf([3, 4]), shardOf([2], 2)];
  const batch = layOutRows([[2, 0], [1]], shards, 6, 9);
  assert.deepEqual([...batch.ids], [200, 201, 0, 1, 2, 9, 100, 101, 102, 103, 9, 9]);
  assert.deepEqual([...batch.labels], [201, -100, -100, 2, -100, -100, -100, 102, 103, -100, -100, -100]);
  assert.deepEqual([...batch.positions], [0, 1, 0, 1, 2, 0, 0, 1, 2, 3, 0, 0]);
  assert.deepEqual([...batch.starts], [0, 0, 2, 2, 2, 5, 6, 6, 6, 6, 10, 11]);
  assert.deepEqual([...batch.ends], [2, 2, 5, 5, 5, 6, 10, 10, 10, 10, 11, 12]);
  assert.equal(batch.labelCount, 4);
});

test('the label count planned from sizes is what the laid-out rows have, and rows can be asked for in any order', () => {
  const lengths = Array.from({ length: 40 }, (_u, index) => 2 + ((index * 5) % (T - 2)));
  const shards = [shardOf(lengths.slice(0, 11)), shardOf(lengths.slice(11), 11)];
  const stream = new RowStream(sizesOf(shards, trainedTokens), T, 3);
  const to = 2 * stream.rowsPerEpoch + 3;
  const rows = Array.from({ length: to }, (_u, index) => stream.row(index));
  assert.equal(stream.labelCount(0, to), layOutRows(rows, shards, T, 0).labelCount);
  const resumed = new RowStream(sizesOf(shards, trainedTokens), T, 3);
  for (let index = to - 1; index >= 0; index -= 4) assert.deepEqual(resumed.row(index), rows[index]);
});

test('a sequence longer than a row is refused with both lengths', () => {
  assert.throws(
    () => packEpoch([T + 1], T, 0, 0),
    /sequenceLength: expected at least the longest sequence \(17 tokens\), got 16/,
  );
});
