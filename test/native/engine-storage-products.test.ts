// Matrix products, attention and losses on 16-bit tensors.
import { random, range } from './engine-reference.js';
import { f32, gives, givesF32, ints, type Result, storageTest, stored } from './storage-test.js';

for (const [n, i, o] of [
  [1, 1, 1],
  [2, 20, 7],
  [9, 17, 130],
  [16, 900, 290],
  [37, 51, 131],
  [130, 421, 200],
  [40, 1601, 50],
  [600, 33, 70],
] as const) {
  for (const transposed of [0, 1]) {
    const next = random(n + i + o);
    const [x, dy] = [stored(next(n * i), n, i), stored(next(n * o), n, o)];
    const w = stored(next(i * o), ...(transposed ? [i, o] : [o, i]));
    const bias = stored(next(o), o);
    const addend = stored(next(n * i), n, i);
    const dw: Result = { ...givesF32(...w.dims), before: next(i * o) };
    const dbias: Result = { ...givesF32(o), before: next(o) };
    // An activation is taken of what the product has rounded.
    const activated: Result = { ...gives(n, o), roundings: 2.5 };
    storageTest(`linear and its gradients ${n}x${i}x${o}, transposed ${transposed}`, [
      { op: 'linear', inputs: [x, w], outputs: [gives(n, o)], attributes: [transposed, 0] },
      { op: 'linear', inputs: [x, w, bias], outputs: [givesF32(n, o)], attributes: [transposed, 0] },
      { op: 'linear', inputs: [x, w, bias], outputs: [activated, gives(n, o)], attributes: [transposed, 1] },
      { op: 'linear', inputs: [x, w, bias], outputs: [activated], attributes: [transposed, 1] },
      { op: 'linear', inputs: [x, w, bias], outputs: [activated], attributes: [transposed, 3] },
      { op: 'linear_backward_input', inputs: [dy, w], outputs: [gives(n, i)], attributes: [transposed] },
      { op: 'linear_backward_input', inputs: [dy, w, addend], outputs: [gives(n, i)], attributes: [transposed] },
      {
        op: 'linear_backward_input',
        inputs: [dy, w, addend],
        outputs: [{ ...gives(n, i), on: 2 }],
        attributes: [transposed],
      },
      { op: 'linear_backward_weight', inputs: [x, dy, f32([0], 1)], outputs: [dw, dbias], attributes: [transposed, 0] },
      { op: 'linear_backward_weight', inputs: [x, dy, f32([0], 1)], outputs: [dw], attributes: [transposed, 1] },
    ]);
  }
}

const SEGMENTS = [1, 70, 1, 130, 5];
const ROWS = SEGMENTS.reduce((sum, length) => sum + length, 0);
const bounds = (end: number) =>
  SEGMENTS.flatMap((length, s) => range(length).map(() => SEGMENTS.slice(0, s + end).reduce((sum, x) => sum + x, 0)));
for (const { heads, kvHeads, headDim, causal, window } of [
  { heads: 3, kvHeads: 3, headDim: 8, causal: 1, window: 0 },
  { heads: 4, kvHeads: 2, headDim: 20, causal: 1, window: 0 },
  { heads: 2, kvHeads: 1, headDim: 64, causal: 1, window: 9 },
  { heads: 2, kvHeads: 2, headDim: 16, causal: 0, window: 0 },
  { heads: 4, kvHeads: 2, headDim: 128, causal: 1, window: 0 },
  { heads: 2, kvHeads: 1, headDim: 96, causal: 0, window: 21 },
]) {
  const next = random(headDim);
  const width = (heads + 2 * kvHeads) * headDim;
  const qkv = stored(
    next(ROWS * width).map((x) => 2 * x),
    ROWS,
    width,
  );
  const offsets = [0, headDim, heads * headDim, headDim, (heads + kvHeads) * headDim, headDim];
  const attributes = [heads, kvHeads, headDim, headDim ** -0.5, causal, window, ...offsets];
  const mask = [ints(bounds(0)), ints(bounds(1))];
  const out = { ...gives(ROWS, heads * headDim), roundings: 4 };
  const half = { ...stored(next(ROWS * heads * headDim), ROWS, heads * headDim) };
  const lse = f32(
    range(ROWS * heads).map(() => 3),
    ROWS,
    heads,
  );
  const label = `${heads}/${kvHeads} heads of ${headDim}, causal ${causal}, window ${window}`;
  storageTest(`attention and its gradient, ${label}`, [
    {
      op: 'attention',
      inputs: [qkv, qkv, qkv, ...mask],
      outputs: [out, { ...givesF32(ROWS, heads), roundings: 1 }],
      attributes,
    },
    {
      op: 'attention_backward',
      inputs: [half, half, lse, qkv, qkv, qkv, ...mask],
      // Weights and their slopes are rounded before the products with pairs; larger heads have larger scores here.
      outputs: range(3).map(() => ({ ...gives(ROWS, width), roundings: headDim > 64 ? 9 : 6.5 })),
      attributes,
    },
  ]);
}

storageTest(
  'kv_append and attention_cached',
  (() => {
    const [heads, kvHeads, C, width] = [4, 2, 20, 90];
    const next = random(5);
    const shapes = [
      [7, kvHeads * C, 64],
      [7, 64, kvHeads * C],
    ];
    const caches = shapes.map((dims) => stored(next(7 * 64 * kvHeads * C), ...dims));
    const x = stored(next(3 * width), 3, width);
    const where = [ints([2, 0, 2]), ints([80, 0, 81]), { ...ints([5, 2, 1, 3, 0, 6]), dims: [3, 2] }];
    return [
      {
        op: 'kv_append',
        inputs: [x, x, ...where, ...caches],
        outputs: shapes.map((dims, i) => ({ ...gives(...dims), on: 5 + i, roundings: 0 })),
        attributes: [kvHeads, C, 2, C, 45, C],
      },
      ...[0, 4].map((window) => ({
        op: 'attention_cached',
        inputs: [x, ...caches, ...where],
        outputs: [{ ...gives(3, heads * C), roundings: 2 }],
        attributes: [heads, kvHeads, C, 0.3, window, 0, C],
      })),
    ];
  })(),
);

for (const transposed of [0, 1]) {
  for (const [n, d, v, chunk, every] of [
    [11, 33, 101, 4, 3],
    [40, 24, 50, 16, 1],
    [17, 150, 1301, 8, 2],
  ] as const) {
    const next = random(v);
    const x = stored(next(n * d), n, d);
    const w = stored(next(d * v), ...(transposed ? [d, v] : [v, d]));
    const bias = stored(next(v), v);
    const labels = ints(range(n).map((i) => (i % every === 0 ? (i * 7) % v : -100)));
    const scale = f32([0.25], 1);
    // The gradients of logits are rounded before their products.
    const dw: Result = { ...givesF32(...w.dims), before: next(d * v), roundings: 1 };
    const dbias: Result = { ...givesF32(v), before: next(v), roundings: 1 };
    const losses = [givesF32(1), givesF32(n)];
    const workspace: Result = { ...givesF32(chunk, v), roundings: Number.POSITIVE_INFINITY };
    storageTest(`linear_cross_entropy 1 in ${every} of ${n}x${d}x${v} by ${chunk}, transposed ${transposed}`, [
      {
        op: 'linear_cross_entropy',
        inputs: [x, w, labels, scale],
        outputs: [...losses, workspace],
        attributes: [transposed, chunk, 0, 0, 0],
      },
      {
        op: 'linear_cross_entropy_grad',
        inputs: [x, w, labels, scale, bias, f32([1], 1)],
        outputs: [...losses, { ...gives(n, d), roundings: 2 }, workspace, dw, dbias],
        attributes: [transposed, chunk, 0, 0.1, 0.01, 0],
      },
    ]);
  }
}
