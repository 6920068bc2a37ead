// Rotary positions and attention, over rows and over a cache of the native engine against a plain reference, on every instruction set of this CPU with one and three threads, and on CUDA.
import { paged } from '../support/paged-cache.js';
import { attention, random, range } from './engine-reference.js';
import { opTest } from './op-test.js';

opTest('rotary turns pairs, leaves other columns, and turns back', (plan) => {
  const [n, heads, headDim, rotaryDim, offset, stride, w, p] = [6, 2, 10, 6, 3, 12, 27, 9];
  const x = random(7)(n * w);
  const positions = [0, 8, 3, 3, 1, 7];
  const angle = (position: number, i: number) => position * 0.7 ** i;
  const table = (f: (a: number) => number) =>
    range((p * rotaryDim) / 2).map((e) => f(angle(Math.floor((2 * e) / rotaryDim), e % (rotaryDim / 2))));
  const y = x.slice();
  for (const [r, position] of positions.entries()) {
    for (const h of range(heads)) {
      for (const i of range(rotaryDim / 2)) {
        const first = r * w + offset + h * stride + i;
        const second = first + rotaryDim / 2;
        const [c, s] = [Math.cos(angle(position, i)), Math.sin(angle(position, i))];
        y[first] = x[first]! * c - x[second]! * s;
        y[second] = x[second]! * c + x[first]! * s;
      }
    }
  }
  const [xs, ys, back] = [plan.tensor([n, w], x), plan.tensor([n, w]), plan.tensor([n, w])];
  const tables = [
    plan.tensor([p, rotaryDim / 2], table(Math.cos)),
    plan.tensor([p, rotaryDim / 2], table(Math.sin)),
    plan.ints(positions),
  ];
  plan.op('rotary', [xs, ...tables], [ys], [heads, headDim, rotaryDim, offset, stride, 0, 0]);
  plan.op('copy', [ys], [back]);
  plan.op('rotary', [back, ...tables], [back], [heads, headDim, rotaryDim, offset, stride, 1, 0]);
  return [
    [ys, y],
    [back, x],
  ];
});

const SEGMENTS = [1, 70, 1, 1, 130, 5];
for (const shape of [
  { heads: 3, kvHeads: 3, headDim: 8, causal: true, window: 0 },
  { heads: 4, kvHeads: 2, headDim: 20, causal: true, window: 0 },
  { heads: 2, kvHeads: 1, headDim: 64, causal: true, window: 9 },
  { heads: 2, kvHeads: 2, headDim: 16, causal: false, window: 0 },
  { heads: 1, kvHeads: 1, headDim: 5, causal: false, window: 3 },
]) {
  const label = `${shape.heads}/${shape.kvHeads} heads of ${shape.headDim}, causal ${shape.causal}, window ${shape.window}`;
  opTest(`attention and its gradient, ${label}`, (plan) => {
    const { heads, kvHeads, headDim: C } = shape;
    const rows = SEGMENTS.reduce((sum, length) => sum + length, 0);
    const starts = SEGMENTS.flatMap((length, s) =>
      range(length).map(() => SEGMENTS.slice(0, s).reduce((sum, x) => sum + x, 0)),
    );
    const ends = SEGMENTS.flatMap((length, s) =>
      range(length).map(() => SEGMENTS.slice(0, s + 1).reduce((sum, x) => sum + x, 0)),
    );
    const next = random(C);
    const [q, k, v, dO] = [heads, kvHeads, kvHeads, heads].map((h) => next(rows * h * C).map((x) => 3 * x)) as [
      number[],
      number[],
      number[],
      number[],
    ];
    const c = { rows, starts, ends, scale: C ** -0.5, ...shape };
    const want = attention(c, q, k, v, dO);
    // q, k, v side by side in one tensor, with three columns before that belong to nobody.
    const width = 3 + (heads + 2 * kvHeads) * C;
    const fuse = (parts: readonly (readonly number[])[], own: number) =>
      range(rows * width).map((e) => {
        const [r, column] = [Math.floor(e / width), (e % width) - 3];
        if (column < 0) return own;
        if (column < heads * C) return parts[0]![r * heads * C + column]!;
        const kv = column - heads * C;
        const part = parts[kv < kvHeads * C ? 1 : 2]!;
        return part[r * kvHeads * C + (kv % (kvHeads * C))]!;
      });
    const offsets = [3, C, 3 + heads * C, C, 3 + (heads + kvHeads) * C, C];
    const attributes = [heads, kvHeads, C, c.scale, c.causal ? 1 : 0, c.window, ...offsets];
    const qkv = plan.tensor([rows, width], fuse([q, k, v], 0));
    const grads = plan.tensor([rows, width], new Array<number>(rows * width).fill(0.5));
    const mask = [plan.ints(starts), plan.ints(ends)];
    const [o, lse] = [plan.tensor([rows, heads * C]), plan.tensor([rows, heads])];
    plan.op('attention', [qkv, qkv, qkv, ...mask], [o, lse], attributes);
    const gradO = plan.tensor([rows, heads * C], dO);
    plan.op('attention_backward', [gradO, o, lse, qkv, qkv, qkv, ...mask], [grads, grads, grads], attributes);
    return [
      [o, want.o],
      [lse, want.lse],
      [grads, fuse([want.dq, want.dk, want.dv], 0.5), 1e-4],
    ];
  });
}

// From 256 tokens on a GPU cuts the keys of a row into parts: of five blocks into two, of which one may be empty or cut by the window.
for (const [window, capacity, positions] of [
  [0, 128, [80, 0, 81]],
  [4, 128, [80, 0, 81]],
  [0, 320, [319, 63, 200]],
  [150, 320, [319, 3, 200]],
] as const) {
  opTest(`kv_append and attention_cached, window ${window}, ${capacity} tokens`, (plan) => {
    const [slots, heads, kvHeads, C, width] = [3, 4, 2, 20, 90];
    const blocks = capacity / 64;
    const next = random(5);
    const [cacheK, cacheV] = [next(slots * capacity * kvHeads * C), next(slots * capacity * kvHeads * C)];
    const x = next(3 * width);
    const at = [2, 0, 2];
    const row = (cache: number[], slot: number, position: number, g: number) =>
      cache.slice(((slot * capacity + position) * kvHeads + g) * C).slice(0, C);
    const [k, v] = [cacheK.slice(), cacheV.slice()];
    for (const [i, slot] of at.entries()) {
      for (const e of range(kvHeads * C)) {
        k[(slot * capacity + positions[i]!) * kvHeads * C + e] = x[i * width + 2 + e]!;
        v[(slot * capacity + positions[i]!) * kvHeads * C + e] = x[i * width + 45 + e]!;
      }
    }
    const o = at.flatMap((slot, i) =>
      range(heads).flatMap((h) => {
        const q = x.slice(i * width + h * C, i * width + (h + 1) * C);
        const from = window ? Math.max(0, positions[i]! - window + 1) : 0;
        const keys = range(positions[i]! + 1).slice(from);
        const scores = keys.map((j) =>
          Math.exp(0.3 * row(k, slot, j, h >> 1).reduce((sum, value, d) => sum + value * q[d]!, 0)),
        );
        const total = scores.reduce((sum, s) => sum + s, 0);
        return range(C).map((d) =>
          keys.reduce((sum, j, n) => sum + (scores[n]! / total) * row(v, slot, j, h >> 1)[d]!, 0),
        );
      }),
    );
    const xs = plan.tensor([3, width], x);
    const shape = {
      slots,
      positions: capacity,
      width: kvHeads * C,
      table: range(slots * blocks).map((i) => (i * 7 + 5) % 17),
      blockCount: 17,
    };
    const caches = [
      plan.tensor([17, kvHeads * C, 64], paged(cacheK, 'k', shape)),
      plan.tensor([17, 64, kvHeads * C], paged(cacheV, 'v', shape)),
    ];
    const where = [plan.ints(at), plan.ints([...positions]), plan.tensor([slots, blocks], shape.table, 'i32')];
    const out = plan.tensor([3, heads * C]);
    plan.op('kv_append', [xs, xs, ...where, ...caches], caches, [kvHeads, C, 2, C, 45, C]);
    plan.op('attention_cached', [xs, ...caches, ...where], [out], [heads, kvHeads, C, 0.3, window, 0, C]);
    return [
      [caches[0]!, Array.from(paged(k, 'k', shape))],
      [caches[1]!, Array.from(paged(v, 'v', shape))],
      [out, o],
    ];
  });
}
