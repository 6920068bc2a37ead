// When sliced parameters are gathered and released: the keys of DeepSpeed on a row of blocks, forward and back.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { planGathers, ZERO_TUNING } from '#src/engine/index.js';

/** Blocks of 10 elements each; instruction i of the forward reads block i, the backward goes the other way. */
const BLOCKS = Array.from({ length: 5 }, (_, index) => ({ elements: 10, block: `${index}` }));
const VISITS = [0, 1, 2, 3, 4, 4, 3, 2, 1, 0].map((bucket, op) => ({ bucket, op }));
const BARE = { ...ZERO_TUNING, maxReuseDistance: 0, prefetchBucketSize: 0 };
const planned = (tuning: Partial<typeof ZERO_TUNING>) =>
  planGathers(BLOCKS, VISITS, { ...BARE, ...tuning }).map(
    ({ bucket, first, last, gatherAt }) => `${bucket}: ${gatherAt}, ${first}-${last}`,
  );

test('without budgets every use is gathered when it is due; the last block goes straight into its backward', () => {
  assert.deepEqual(planned({}), [
    '0: 0, 0-0',
    '1: 1, 1-1',
    '2: 2, 2-2',
    '3: 3, 3-3',
    '4: 4, 4-5',
    '3: 6, 6-6',
    '2: 7, 7-7',
    '1: 8, 8-8',
    '0: 9, 9-9',
  ]);
});

test('what is used again within maxReuseDistance is kept, as far as maxLiveParameters has room', () => {
  // Between the two uses of block 2 lie blocks 3 and 4.
  assert.deepEqual(planned({ maxReuseDistance: 21 }).slice(2, 5), ['2: 2, 2-7', '3: 3, 3-6', '4: 4, 4-5']);
  assert.deepEqual(planned({ maxReuseDistance: 1e9, maxLiveParameters: 30 }).slice(1, 5), [
    '1: 1, 1-1',
    '2: 2, 2-7',
    '3: 3, 3-6',
    '4: 4, 4-5',
  ]);
});

test('gathering begins at the use of an earlier block, one more than prefetchBucketSize has room for', () => {
  assert.deepEqual(planned({ prefetchBucketSize: 1 }).slice(0, 4), [
    '0: 0, 0-0',
    '1: 0, 1-1',
    '2: 1, 2-2',
    '3: 2, 3-3',
  ]);
  assert.deepEqual(planned({ prefetchBucketSize: 20 }).slice(0, 4), [
    '0: 0, 0-0',
    '1: 0, 1-1',
    '2: 0, 2-2',
    '3: 1, 3-3',
  ]);
  assert.deepEqual(planned({ prefetchBucketSize: 20, overlapComm: false }), planned({}));
  assert.deepEqual(planned({ prefetchBucketSize: 20, maxLiveParameters: 20 }), planned({ prefetchBucketSize: 1 }));
});

test('buckets of one block do not push each other out', () => {
  const buckets = [
    { elements: 100, block: 'a' },
    { elements: 2, block: 'a' },
  ];
  const visits = [0, 1, 0, 1, 0].map((bucket, op) => ({ bucket, op }));
  assert.deepEqual(
    planGathers(buckets, visits, BARE).map(({ bucket, first, last }) => [bucket, first, last]),
    [
      [0, 0, 4],
      [1, 1, 3],
    ],
  );
});

test('every use lies in a stay, gathers begin in the order of use, and no more is alive than allowed and needed', () => {
  const buckets = fc.array(
    fc.record({ elements: fc.integer({ min: 1, max: 50 }), block: fc.constantFrom('a', 'b', 'c') }),
    {
      minLength: 1,
      maxLength: 6,
    },
  );
  const budget = fc.integer({ min: 0, max: 150 });
  fc.assert(
    fc.property(
      buckets,
      fc.array(fc.nat(5), { maxLength: 30 }),
      budget,
      budget,
      budget,
      (shapes, order, reuse, live, ahead) => {
        const visits = order.map((bucket, op) => ({ bucket: bucket % shapes.length, op }));
        const tuning = {
          overlapComm: true,
          maxReuseDistance: reuse,
          maxLiveParameters: live,
          prefetchBucketSize: ahead,
        };
        const stays = planGathers(shapes, visits, tuning);
        for (const { bucket, op } of visits)
          assert.equal(stays.filter((stay) => stay.bucket === bucket && stay.first <= op && op <= stay.last).length, 1);
        for (const [index, stay] of stays.entries()) {
          assert.ok(stay.gatherAt <= stay.first && stay.gatherAt >= (stays[index - 1]?.gatherAt ?? 0));
        }
        const needed = planGathers(shapes, visits, { ...tuning, maxReuseDistance: 0, prefetchBucketSize: 0 });
        const alive = (all: typeof stays, op: number, from: 'gatherAt' | 'first') =>
          all.reduce(
            (sum, stay) => (stay[from] <= op && op <= stay.last ? sum + shapes[stay.bucket]!.elements : sum),
            0,
          );
        for (const { op } of visits)
          assert.ok(alive(stays, op, 'gatherAt') <= Math.max(live, alive(needed, op, 'first')), `at ${op}`);
      },
    ),
  );
});
