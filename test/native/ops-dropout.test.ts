// What drops, by counters of Philox of the native engine against a plain reference, on every instruction set of this CPU with one and three threads, and on CUDA.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keptColumns, philox, random, range } from './engine-reference.js';
import { opTest } from './op-test.js';

test('the reference of the generator gives the published numbers', () => {
  // Random123, tests/kat_vectors: philox4x32-10.
  assert.deepEqual(philox([0, 0, 0, 0], [0, 0]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
  assert.deepEqual(
    philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  );
});

for (const [n, d, p] of [
  [1, 1, 0.5],
  [5, 300, 0.3],
  [70, 128, 0.1],
  [3, 17, 0],
] as const) {
  const x = random(n + d)(n * d);
  const threshold = Math.round(p * 65536);
  const kept = range(n).flatMap((row) => keptColumns([-7, 99], 12, 1000 + row, 5 << 16, threshold, d));
  const y = x.map((value, i) => (kept[i] ? value / (1 - threshold / 65536) : 0));

  opTest(`dropout of ${p} of ${n}x${d}`, (plan) => {
    const [xs, ys] = [plan.tensor([n, d], x), plan.tensor([n, d])];
    const counters = plan.ints([-7, 99, 12, 1000]);
    plan.op('dropout', [xs, counters], [ys], [p, 5]);
    const later = plan.ints([-7, 99, 12, 1000 + Math.floor(n / 2)]);
    const rest = plan.tensor([n - Math.floor(n / 2), d], x.slice(Math.floor(n / 2) * d));
    plan.op('dropout', [rest, later], [rest], [p, 5]);
    return [
      [ys, y],
      [rest, y.slice(Math.floor(n / 2) * d)],
    ];
  });
}

for (const [rows, first, causal] of [
  [150, 0, 1],
  [70, 1000, 1],
  [90, 77, 0],
] as const) {
  const [heads, C, p] = [2, 5, 0.25];
  const next = random(rows + first);
  const [q, k, v] = [next(rows * heads * C), next(rows * heads * C), next(rows * heads * C)];
  const bound = 3; // two segments: three rows, and the rest
  const threshold = Math.round(p * 65536);
  const kept = range(heads).map((head) =>
    range(rows).map((row) =>
      keptColumns([9, 8], 4, first + row, (6 << 16) + head, threshold, first + rows).slice(first),
    ),
  );
  const o = range(rows * heads * C).map((e) => {
    const [row, head, c] = [Math.floor(e / (heads * C)), Math.floor(e / C) % heads, e % C];
    const [from, to] = row < bound ? [0, bound] : [bound, rows];
    const keys = range(rows).filter((key) => key >= from && key < to && (causal === 0 || key <= row));
    const at = (key: number, i: number) => (key * heads + head) * C + i;
    const weights = keys.map((key) =>
      Math.exp(0.4 * range(C).reduce((sum, i) => sum + q[at(row, i)]! * k[at(key, i)]!, 0)),
    );
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const scale = 1 / (1 - threshold / 65536) / total;
    return keys.reduce((sum, key, i) => sum + (kept[head]![row]![key] ? weights[i]! * scale * v[at(key, c)]! : 0), 0);
  });

  opTest(`attention that drops keys, ${rows} rows from ${first}, causal ${causal}`, (plan) => {
    const width = heads * C;
    const [qs, ks, vs] = [q, k, v].map((values) => plan.tensor([rows, width], values)) as [never, never, never];
    const starts = plan.ints(range(rows).map((row) => (row < bound ? 0 : bound)));
    const ends = plan.ints(range(rows).map((row) => (row < bound ? bound : rows)));
    const [os, lse] = [plan.tensor([rows, width]), plan.tensor([rows, heads])];
    const attributes = [heads, heads, C, 0.4, causal, 0, 0, C, 0, C, 0, C, p, 6];
    plan.op('attention', [qs, ks, vs, starts, ends, plan.ints([9, 8, 4, first])], [os, lse], attributes);
    return [[os, o]];
  });
}
