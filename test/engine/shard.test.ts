// Cuts of parameters: every element has its owner, whatever is cut along whichever dim.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type Cut,
  commonRuns,
  copiesOf,
  cutText,
  gridsOf,
  heldDims,
  isFirstHolder,
  parseCut,
  putShard,
  sortedRuns,
  takeShard,
} from '#src/engine/shard.js';

const cuts = fc
  .record({
    dim: fc.constantFrom(0 as const, 1 as const),
    isVector: fc.boolean(),
    blocks: fc.constantFrom(1, 3),
    parts: fc.constantFrom(1, 2, 3, 4),
    copies: fc.constantFrom(1, 2),
    length: fc.integer({ min: 1, max: 9 }),
    other: fc.integer({ min: 1, max: 5 }),
  })
  .map(({ dim, isVector, blocks, parts, copies, length, other }): Cut => {
    const along = blocks * length;
    const dims = isVector ? [along] : dim === 0 ? [along, other] : [other, along];
    return { dims, dim: isVector ? 0 : dim, blocks, parts, ranks: parts * copies };
  });

const numbered = (count: number) => Float32Array.from({ length: count }, (_, index) => index + 1);
const size = (dims: readonly number[]) => dims.reduce((product, dim) => product * dim, 1);

test('what the ranks hold, put together, is the whole parameter, and every part is held by as many ranks', () => {
  fc.assert(
    fc.property(cuts, (cut) => {
      const whole = numbered(size(cut.dims));
      const found = new Float32Array(whole.length);
      const owners = new Uint8Array(whole.length);
      for (let rank = 0; rank < cut.ranks; rank++) {
        const held = takeShard(whole, cut, rank);
        assert.equal(held.length, size(heldDims(cut)));
        for (const value of held) if (value !== 0) owners[value - 1]!++;
        putShard(found, held, cut, rank);
      }
      assert.deepEqual(found, whole);
      assert.ok(owners.every((count) => count === copiesOf(cut)));
    }),
  );
});

test('each block of a fused matrix is cut on its own, along either dim', () => {
  const cut: Cut = { dims: [2, 6], dim: 1, blocks: 3, parts: 2, ranks: 2 };
  const whole = numbered(12);
  assert.deepEqual([...takeShard(whole, cut, 0)], [1, 3, 5, 7, 9, 11]);
  assert.deepEqual([...takeShard(whole, cut, 1)], [2, 4, 6, 8, 10, 12]);
  assert.deepEqual([...takeShard(numbered(6), { ...cut, dims: [6], dim: 0 }, 1)], [2, 4, 6]);
});

test('a dim that does not divide is padded with zeros at the end', () => {
  const cut: Cut = { dims: [5, 2], dim: 0, blocks: 1, parts: 4, ranks: 4 };
  const held = [0, 1, 2, 3].map((rank) => [...takeShard(numbered(10), cut, rank)]);
  assert.deepEqual(held, [
    [1, 2, 3, 4],
    [5, 6, 7, 8],
    [9, 10, 0, 0],
    [0, 0, 0, 0],
  ]);
  assert.deepEqual(gridsOf(cut, 3), []);
});

test('what is stored under any cut, and not at all, is found again under any other', () => {
  fc.assert(
    fc.property(cuts, fc.constantFrom(1, 2, 3), fc.constantFrom(0 as const, 1 as const), (stored, parts, dim) => {
      const { dims } = stored;
      const own: Cut | null =
        parts === 1 ? null : { dims, dim: dims.length === 1 ? 0 : dim, blocks: 1, parts, ranks: parts };
      const whole = numbered(size(dims));
      const length = own ? size(heldDims(own)) : whole.length;
      for (let rank = 0; rank < parts; rank++) {
        const found = new Float32Array(length);
        const wanted = sortedRuns(own, rank, 0, length);
        for (let other = 0; other < stored.ranks; other++) {
          if (!isFirstHolder(stored, other)) continue;
          // As a file has it: named by its cut, in two pieces.
          const { cut, rank: part } = parseCut(cutText(stored, other))!;
          const held = takeShard(whole, cut, part);
          assert.deepEqual(held, takeShard(whole, stored, other));
          const middle = Math.floor(held.length / 2);
          for (const [start, end] of [
            [0, middle],
            [middle, held.length],
          ] as const)
            for (const { a, b, length } of commonRuns(sortedRuns(cut, part, start, end), wanted))
              found.set(held.subarray(a, a + length), b);
        }
        assert.deepEqual(found, own ? takeShard(whole, own, rank) : whole);
      }
    }),
  );
});

test('a name that is no cut is none', () => {
  for (const text of ['', '0-1-2', '2-1-2-0-4', '0-0-2-0-4', '0-1-2-2-4', '1-1-2-0-4', '0-3-1-0-4'])
    assert.equal(parseCut(text), null, text);
});
