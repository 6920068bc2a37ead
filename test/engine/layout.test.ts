// The layout of flat buffers: every element of every parameter has one owner, whatever the sizes and the number of ranks.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { elementCount, layOut, type Parameter, partsOf, placesOf, slicesOf } from '#src/engine/index.js';

const parameters = fc
  .array(
    fc.record({
      dims: fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 2 }),
      bucket: fc.constantFrom('embeddings', 'block 0', 'block 1', 'head'),
    }),
    { minLength: 1, maxLength: 20 },
  )
  .map((list) =>
    list.map(
      ({ dims, bucket }, index): Parameter => ({
        name: `p${index}`,
        tensor: index,
        dims,
        bucket,
        init: { kind: 'zeros' },
        isFrozen: false,
      }),
    ),
  );

test('the slices of all ranks cover every parameter once, and state offsets of one rank do not meet', () => {
  fc.assert(
    fc.property(parameters, fc.integer({ min: 1, max: 7 }), (list, ranks) => {
      const layout = layOut(list, ranks);
      const owners = new Map(list.map(({ name, dims }) => [name, new Array<number>(elementCount(dims)).fill(0)]));
      for (let rank = 0; rank < ranks; rank++) {
        const state = new Set<number>();
        for (const { name, parameterOffset, length, sliceOffset } of slicesOf(layout, rank)) {
          for (let i = 0; i < length; i++) {
            owners.get(name)![parameterOffset + i]! += 1;
            assert.ok(!state.has(sliceOffset + i));
            state.add(sliceOffset + i);
            assert.ok(sliceOffset + i < layout.sliceElements);
          }
        }
      }
      for (const counts of owners.values()) assert.ok(counts.every((count) => count === 1));
    }),
  );
});

test('sliced parameters have every element on one rank, small ones all elements on every rank, frozen or not', () => {
  fc.assert(
    fc.property(
      parameters,
      fc.integer({ min: 2, max: 5 }),
      fc.integer({ min: 0, max: 300 }),
      fc.integer({ min: 0, max: 900 }),
      fc.integer({ min: 1, max: 2000 }),
      (drawn, ranks, elementsMax, totalMax, bucketElementsMax) => {
        const list = drawn.map((parameter, index) => ({ ...parameter, isFrozen: index % 3 === 0 }));
        const layout = layOut(list, ranks, { sliced: { elementsMax, totalMax }, bucketElementsMax });
        const all = Array.from({ length: ranks }, (_, rank) => partsOf(layout, rank));
        let persistent = 0;
        for (const { name, dims } of list) {
          const parts = all.map((byName) => byName.get(name));
          const length = elementCount(dims);
          if (parts[0]?.isAll) {
            assert.ok(length <= elementsMax, `${name} of ${length} elements is whole`);
            assert.ok(parts.every((part) => part?.isAll && part.length === length));
            persistent += length;
            continue;
          }
          let next = 0; // ranks hold consecutive parts
          for (const part of parts) {
            if (!part) continue;
            assert.equal(part.start, next);
            next += part.length;
          }
          assert.equal(next, length);
        }
        assert.ok(persistent <= totalMax);
        for (const byName of all) {
          let reached = 0;
          for (const { offset, length } of [...byName.values()].sort((a, b) => a.offset - b.offset)) {
            assert.ok(offset >= reached);
            reached = offset + length;
          }
          assert.ok(reached <= layout.parameterElements);
        }
        for (const bucket of layout.buckets)
          if (bucket.parameters.length > 1)
            assert.ok(bucket.parameters.reduce((sum, { length }) => sum + length, 0) <= bucketElementsMax);
      },
    ),
  );
});

test('buckets cut into equal slices of whole 64-byte lines, and parameters that decay come first', () => {
  fc.assert(
    fc.property(parameters, fc.integer({ min: 1, max: 7 }), (list, ranks) => {
      const layout = layOut(list, ranks);
      for (const bucket of layout.buckets) {
        assert.equal(bucket.elements, bucket.sliceElements * ranks);
        assert.equal(bucket.sliceElements % 16, 0);
        for (const place of bucket.parameters) {
          assert.equal(place.offset % 16, 0);
          assert.equal(place.offset < bucket.decayEnd, place.dims.length >= 2, place.name);
        }
      }
    }),
  );
});

test('whole matrices lie inside one slice each, and as many blocks as ranks share them out evenly', () => {
  fc.assert(
    fc.property(parameters, fc.integer({ min: 1, max: 7 }), (list, ranks) => {
      const isWhole = ({ dims, bucket }: Parameter) => dims.length === 2 && bucket.startsWith('block');
      const layout = layOut(list, ranks, { isWhole });
      const placed = new Map(
        layout.buckets.flatMap((bucket) => bucket.parameters.map((place) => [place.name, { bucket, place }] as const)),
      );
      for (const parameter of list) {
        const { bucket, place } = placed.get(parameter.name)!;
        assert.equal(bucket.isOfMatrices, isWhole(parameter));
        if (!bucket.isOfMatrices) continue;
        const slice = Math.floor(place.offset / bucket.sliceElements);
        assert.ok(place.offset + place.length <= (slice + 1) * bucket.sliceElements);
      }
    }),
  );
  const block = (bucket: string) =>
    [
      [64, 192],
      [64, 64],
      [64, 256],
      [256, 64],
    ].map((dims, index): Parameter => {
      return { name: `${bucket}.${index}`, tensor: 0, dims, bucket, init: { kind: 'zeros' }, isFrozen: false };
    });
  const blocks = Array.from({ length: 8 }, (_, index) => block(`block ${index}`)).flat();
  for (const ranks of [1, 2, 4, 8])
    assert.equal(layOut(blocks, ranks, { isWhole: () => true }).elements, 8 * 12 * 64 * 64);
});

test('places inside the whole buffer do not meet', () => {
  fc.assert(
    fc.property(parameters, fc.integer({ min: 1, max: 7 }), (list, ranks) => {
      const layout = layOut(list, ranks);
      let reached = 0;
      for (const { offset, length } of [...placesOf(layout).values()].sort((a, b) => a.offset - b.offset)) {
        assert.ok(offset >= reached);
        reached = offset + length;
      }
      assert.ok(reached <= layout.elements);
    }),
  );
});
