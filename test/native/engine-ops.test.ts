// Every op of the native engine against a plain reference, for each instruction set of this CPU with one and three threads, and for CUDA.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEVICES } from '../support/devices.js';
import { PlanWriter, type TensorHandle } from '../support/native-plan.js';
import { paged } from '../support/paged-cache.js';
import { ACTIVATIONS, attention, keptColumns, philox, product, random, range, slope } from './engine-reference.js';

function close(actual: readonly number[], expected: readonly number[], what: string, tolerance = 2e-5): void {
  assert.equal(actual.length, expected.length, what);
  const scale = Math.max(1e-3, Math.sqrt(expected.reduce((sum, x) => sum + x * x, 0) / expected.length));
  for (const [i, x] of actual.entries()) {
    const error = Math.abs(x - expected[i]!) / scale;
    assert.ok(error <= tolerance, `${what}[${i}] is ${x}, expected ${expected[i]} (error ${error} of the rms)`);
  }
}

/** One plan run on every device; `check` compares what it left. */
function opTest(
  name: string,
  build: (plan: PlanWriter) => readonly [TensorHandle, readonly number[], number?][],
): void {
  for (const { name: where, open } of DEVICES) {
    test(`${name} (${where})`, async () => {
      const plan = new PlanWriter();
      const expected = build(plan);
      const device = open();
      try {
        const loaded = plan.load(device);
        await loaded.program.run();
        for (const [tensor, values, tolerance] of expected) {
          close(loaded.read(tensor), values, `tensor ${tensor.index}`, tolerance);
        }
      } finally {
        device.dispose();
      }
    });
  }
}

for (const [n, i, o] of [
  [1, 1, 1],
  [2, 20, 7],
  [3, 17, 5],
  [4, 70, 130],
  [37, 50, 131],
  [130, 421, 200],
  [9, 5000, 50],
] as const) {
  for (const transposed of [0, 1]) {
    const next = random(n + i + o);
    const [x, w, bias, dy, start] = [next(n * i), next(i * o), next(o), next(n * o), next(Math.max(i * o, n * i))];
    const weight = (oo: number, ii: number) => w[transposed ? ii * o + oo : oo * i + ii]!;
    const dims = transposed ? [i, o] : [o, i];
    const plain = product(
      n,
      o,
      i,
      (r, p) => x[r * i + p]!,
      (p, j) => weight(j, p),
    );

    opTest(`linear ${n}x${i}x${o} transposed ${transposed}`, (plan) => {
      const [xs, ws] = [plan.tensor([n, i], x), plan.tensor(dims, w)];
      const outputs = range(6).map(() => plan.tensor([n, o]));
      plan.op('linear', [xs, ws], [outputs[0]!], [transposed, 0]);
      const bs = plan.tensor([o], bias);
      for (const kind of range(5)) {
        const pre = plan.tensor([n, o]);
        plan.op('linear', [xs, ws, bs], [outputs[kind + 1]!, pre], [transposed, kind]);
      }
      // Where nobody reads the value before, the activation may be the product's.
      const alone = range(5).map((kind) => {
        const [biased, plainly] = [plan.tensor([n, o]), plan.tensor([n, o])];
        plan.op('linear', [xs, ws, bs], [biased], [transposed, kind]);
        plan.op('linear', [xs, ws], [plainly], [transposed, kind]);
        const act = ACTIVATIONS[kind]!;
        return [
          [biased, plain.map((value, e) => act(value + bias[e % o]!))],
          [plainly, plain.map((value) => act(value))],
        ] as [TensorHandle, number[]][];
      });
      return [
        ...outputs.map((output, at): [TensorHandle, number[]] => {
          const act = ACTIVATIONS[Math.max(0, at - 1)]!;
          return [output, plain.map((value, e) => (at === 0 ? value : act(value + bias[e % o]!)))];
        }),
        ...alone.flat(),
      ];
    });

    opTest(`linear_backward_input ${n}x${i}x${o} transposed ${transposed}`, (plan) => {
      const inputs = [plan.tensor([n, o], dy), plan.tensor(dims, w)];
      const expected = product(
        n,
        i,
        o,
        (r, p) => dy[r * o + p]!,
        (p, j) => weight(p, j),
      );
      const added = expected.map((value, e) => value + start[e]!);
      const addend = plan.tensor([n, i], start.slice(0, n * i));
      const inPlace = plan.tensor([n, i], start.slice(0, n * i));
      const [alone, apart] = [plan.tensor([n, i]), plan.tensor([n, i])];
      plan.op('linear_backward_input', inputs, [alone], [transposed]);
      plan.op('linear_backward_input', [...inputs, addend], [apart], [transposed]);
      plan.op('linear_backward_input', [...inputs, inPlace], [inPlace], [transposed]);
      return [
        [alone, expected],
        [apart, added],
        [inPlace, added],
      ];
    });

    opTest(`linear_backward_weight ${n}x${i}x${o} transposed ${transposed}`, (plan) => {
      const inputs = [plan.tensor([n, i], x), plan.tensor([n, o], dy)];
      const at = (oo: number, ii: number) => range(n).reduce((sum, r) => sum + dy[r * o + oo]! * x[r * i + ii]!, 0);
      const expected = range(i * o).map((e) =>
        transposed ? at(e % o, Math.floor(e / o)) : at(Math.floor(e / i), e % i),
      );
      const sums = range(o).map((j) => range(n).reduce((sum, r) => sum + dy[r * o + j]!, 0));
      const [zero, one] = [plan.tensor([1], [0]), plan.tensor([1], [1])];
      const first = start.slice(0, i * o);
      const tensors = range(3).map(() => [plan.tensor(dims, first), plan.tensor([o], bias)] as const);
      plan.op('linear_backward_weight', [...inputs, zero], tensors[0]!, [transposed, 0]);
      plan.op('linear_backward_weight', [...inputs, one], tensors[1]!, [transposed, 0]);
      plan.op('linear_backward_weight', [...inputs, zero], tensors[2]!, [transposed, 1]);
      return tensors.flatMap(([dw, dbias], which) => [
        [dw, expected.map((value, e) => value + (which ? first[e]! : 0))],
        [dbias, sums.map((value, j) => value + (which ? bias[j]! : 0))],
      ]) as [TensorHandle, number[]][];
    });
  }
}

opTest('embedding and its gradient', (plan) => {
  const [n, v, d] = [9, 5, 19];
  const next = random(1);
  const [table, addend, dy, start] = [next(v * d), next(n * d), next(n * d), next(v * d)];
  const ids = [0, 4, 4, 2, 1, 4, 0, 2, 2];
  const at = plan.ints(ids);
  const [y, added, dtable, grown] = [
    [n, d],
    [n, d],
    [v, d],
    [v, d],
  ].map((dims) => plan.tensor(dims, null)) as [TensorHandle, TensorHandle, TensorHandle, TensorHandle];
  const sum = plan.tensor([v, d], start);
  plan.op('embedding', [at, plan.tensor([v, d], table)], [y], [0]);
  plan.op('embedding', [at, plan.tensor([v, d], table), plan.tensor([n, d], addend)], [added], [0]);
  const g = plan.tensor([n, d], dy);
  plan.op('embedding_backward', [at, g, plan.tensor([1], [0])], [dtable], [0, 0, -1]);
  plan.op('embedding_backward', [at, g, plan.tensor([1], [0])], [grown], [0, 0, -1]);
  plan.op('embedding_backward', [at, g, plan.tensor([1], [0])], [grown], [1, 0, -1]);
  plan.op('embedding_backward', [at, g, plan.tensor([1], [1])], [sum], [0, 0, -1]);
  const rows = range(n * d).map((e) => table[ids[Math.floor(e / d)]! * d + (e % d)]!);
  const grad = range(v * d).map((e) =>
    ids.reduce((total, id, r) => total + (id === Math.floor(e / d) ? dy[r * d + (e % d)]! : 0), 0),
  );
  return [
    [y, rows],
    [added, rows.map((value, e) => value + addend[e]!)],
    [dtable, grad],
    [grown, grad.map((value) => 2 * value)],
    [sum, grad.map((value, e) => value + start[e]!)],
  ];
});

for (const kind of range(5)) {
  opTest(`activation ${kind}, gated, and gradients`, (plan) => {
    const n = 1003;
    const next = random(kind);
    const x = range(n).map((i) => Math.fround(-12 + (24 * i) / n));
    const [dy, up] = [next(n), next(n)];
    const f = ACTIVATIONS[kind]!;
    const [xs, ds, us] = [x, dy, up].map((values) => plan.tensor([n], values)) as [
      TensorHandle,
      TensorHandle,
      TensorHandle,
    ];
    const [y, dx, gated, inPlace] = range(4).map(() => plan.tensor([n])) as [
      TensorHandle,
      TensorHandle,
      TensorHandle,
      TensorHandle,
    ];
    const [gate, gradUp] = [plan.tensor([n], x), plan.tensor([n], up)];
    plan.op('activation', [xs], [y], [kind]);
    plan.op('copy', [xs], [inPlace]);
    plan.op('activation', [inPlace], [inPlace], [kind]);
    plan.op('activation_backward', [ds, xs], [dx], [kind]);
    plan.op('gated_activation', [xs, us], [gated], [kind]);
    plan.op('gated_activation_backward', [ds, gate, gradUp], [gate, gradUp], [kind]);
    const value = x.map(f);
    const slopes = x.map((at) => slope(f, at));
    return [
      [y, value, 1e-6],
      [inPlace, value, 1e-6],
      [dx, slopes.map((s, i) => s * dy[i]!)],
      [gated, value.map((act, i) => act * up[i]!), 1e-6],
      [gate, slopes.map((s, i) => s * dy[i]! * up[i]!)],
      [gradUp, value.map((act, i) => act * dy[i]!)],
    ];
  });
}

for (const [n, d] of [
  [5, 7],
  [70, 129],
] as const) {
  for (const isRms of [false, true]) {
    opTest(`${isRms ? 'rms_norm' : 'layer_norm'} ${n}x${d} with residual and gradient`, (plan) => {
      const next = random(d);
      const [x, r, gain, bias, dy, addend, start] = [n * d, n * d, d, d, n * d, n * d, d].map(next) as number[][];
      const eps = 1e-5;
      const sum = x!.map((value, e) => value + r![e]!);
      const row = (values: readonly number[], i: number) => values.slice(i * d, (i + 1) * d);
      const mean = range(n).map((i) => (isRms ? 0 : row(sum, i).reduce((t, value) => t + value, 0) / d));
      const rstd = range(n).map(
        (i) => 1 / Math.sqrt(row(sum, i).reduce((t, value) => t + (value - mean[i]!) ** 2, 0) / d + eps),
      );
      const xhat = sum.map((value, e) => (value - mean[Math.floor(e / d)]!) * rstd[Math.floor(e / d)]!);
      const y = xhat.map((value, e) => value * gain![e % d]! + (isRms ? 0 : bias![e % d]!));
      const scaled = dy!.map((value, e) => value * gain![e % d]!);
      const dx = range(n * d).map((e) => {
        const i = Math.floor(e / d);
        const shift = isRms ? 0 : row(scaled, i).reduce((t, value) => t + value, 0) / d;
        const along = row(scaled, i).reduce((t, value, j) => t + value * xhat[i * d + j]!, 0) / d;
        return (scaled[e]! - shift - xhat[e]! * along) * rstd[i]!;
      });
      const column = (values: readonly number[]) =>
        range(d).map((j) => range(n).reduce((t, i) => t + values[i * d + j]!, 0));
      const dgain = column(dy!.map((value, e) => value * xhat[e]!));
      const dbias = column(dy!);

      const [xs, rs, gains, biases, dys, addends] = [
        plan.tensor([n, d], x),
        plan.tensor([n, d], r),
        plan.tensor([d], gain),
        plan.tensor([d], bias),
        plan.tensor([n, d], dy),
        plan.tensor([n, d], addend),
      ];
      const [ys, again, dxs, dxAdded] = range(4).map(() => plan.tensor([n, d])) as [
        TensorHandle,
        TensorHandle,
        TensorHandle,
        TensorHandle,
      ];
      const [means, rstds] = [plan.tensor([n]), plan.tensor([n])];
      const [dgains, dgainsAdded, dbiases, dbiasesAdded] = [
        plan.tensor([d], start),
        plan.tensor([d], start),
        plan.tensor([d], start),
        plan.tensor([d], start),
      ];
      const [zero, one] = [plan.tensor([1], [0]), plan.tensor([1], [1])];
      const name = isRms ? 'rms_norm' : 'layer_norm';
      const affine = isRms ? [gains] : [gains, biases];
      const saved = isRms ? [rstds] : [means, rstds];
      plan.op(`add_${name}`, [xs, rs, ...affine], [xs, ys, ...saved], [eps]); // the sum in place on x
      plan.op(name, [xs, ...affine], [again, ...saved], [eps]);
      const grads = (g: TensorHandle, b: TensorHandle) => (isRms ? [g] : [g, b]);
      plan.op(`${name}_backward`, [dys, xs, gains, ...saved, zero], [dxs, ...grads(dgains, dbiases)], [0, 0]);
      plan.op(
        `${name}_backward`,
        [dys, xs, gains, ...saved, addends, one],
        [dxAdded, ...grads(dgainsAdded, dbiasesAdded)],
        [0, 1],
      );
      const expected: [TensorHandle, number[]][] = [
        [xs, sum],
        [ys, y],
        [again, y],
        [rstds, rstd],
        [dxs, dx],
        [dxAdded, dx.map((value, e) => value + addend![e]!)],
        [dgains, dgain],
        [dgainsAdded, dgain.map((value, j) => value + start![j]!)],
      ];
      if (!isRms) {
        expected.push([means, mean], [dbiases, dbias], [dbiasesAdded, dbias.map((value, j) => value + start![j]!)]);
      }
      return expected;
    });
  }
}

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

opTest('log_sum_exp', (plan) => {
  const [rows, width] = [3, 37];
  const x = random(8)(rows * width);
  [x[5], x[9]] = [4, 4]; // of equals the first
  const row = (i: number) => x.slice(i * width, (i + 1) * width);
  const outputs = [plan.tensor([rows], null, 'i32'), plan.tensor([rows]), plan.tensor([rows])];
  plan.op('log_sum_exp', [plan.tensor([rows, width], x)], outputs, []);
  const tops = range(rows).map((i) => Math.max(...row(i)));
  return [
    [outputs[0]!, tops.map((top, i) => row(i).indexOf(top))],
    [outputs[1]!, tops],
    [outputs[2]!, tops.map((top, i) => Math.log(row(i).reduce((sum, value) => sum + Math.exp(value - top), 0)))],
  ];
});

const LABELLED: Readonly<Record<string, (row: number) => boolean>> = {
  'all rows': () => true,
  'two rows of three': (row) => row % 3 !== 1,
  'a run of rows': (row) => row >= 2 && row < 9,
  'no row': () => false,
};

for (const transposed of [0, 1]) {
  for (const [n, d, v, chunk, which] of [
    [11, 33, 101, 4, 'two rows of three'],
    [5, 8, 3, 64, 'two rows of three'],
    [40, 24, 50, 16, 'two rows of three'],
    [17, 24, 50, 5, 'all rows'],
    [17, 24, 50, 5, 'a run of rows'],
    [17, 24, 50, 5, 'no row'],
  ] as const) {
    opTest(`linear_cross_entropy of ${which}, ${n}x${d}x${v} by ${chunk}, transposed ${transposed}`, (plan) => {
      const next = random(v);
      const [x, w, start] = [next(n * d).map((value) => 4 * value), next(d * v), next(d * v)];
      const labels = range(n).map((i) => (LABELLED[which]!(i) ? (i * 7) % v : -100));
      const scale = 0.25;
      const weight = (word: number, i: number) => w[transposed ? i * v + word : word * d + i]!;
      const logits = product(
        n,
        v,
        d,
        (r, p) => x[r * d + p]!,
        (p, j) => weight(j, p),
      );
      const g = new Array<number>(n * v).fill(0);
      const losses = labels.map((label, i) => {
        if (label === -100) return 0;
        const row = logits.slice(i * v, (i + 1) * v);
        const total = row.reduce((sum, value) => sum + Math.exp(value), 0);
        for (const j of range(v)) g[i * v + j] = scale * (Math.exp(row[j]!) / total - (j === label ? 1 : 0));
        return Math.log(total) - row[label]!;
      });
      const loss = [scale * losses.reduce((sum, value) => sum + value, 0)];
      const dx = product(
        n,
        d,
        v,
        (r, p) => g[r * v + p]!,
        (p, j) => weight(p, j),
      );
      const at = (word: number, i: number) => range(n).reduce((sum, r) => sum + g[r * v + word]! * x[r * d + i]!, 0);
      const dw = range(d * v).map((e) => (transposed ? at(e % v, Math.floor(e / v)) : at(Math.floor(e / d), e % d)));
      const dims = transposed ? [d, v] : [v, d];
      const inputs = [plan.tensor([n, d], x), plan.tensor(dims, w), plan.ints(labels), plan.tensor([1], [scale])];
      const outputs = () => [plan.tensor([1]), plan.tensor([n])] as const;
      const workspace = plan.tensor([chunk, v]);
      const [forward, fresh, added] = [outputs(), outputs(), outputs()];
      const [dxs, dws, dwAdded] = [plan.tensor([n, d], x), plan.tensor(dims, start), plan.tensor(dims, start)];
      plan.op('linear_cross_entropy', inputs, [...forward, workspace], [transposed, chunk, 0, 0, 0]);
      const zero = plan.tensor([1], [0]);
      const grad = 'linear_cross_entropy_grad';
      plan.op(grad, [...inputs, zero], [...fresh, dxs, workspace, dws], [transposed, chunk, 0, 0, 0, 0]);
      plan.op(grad, [...inputs, zero], [...added, dxs, workspace, dwAdded], [transposed, chunk, 1, 0, 0, 0]);
      return [
        ...[forward, fresh, added].flatMap(([total, each]): [TensorHandle, number[]][] => [
          [total, loss],
          [each, losses],
        ]),
        [dxs, dx],
        [dws, dw],
        [dwAdded, dw.map((value, e) => value + start[e]!)],
      ];
    });
  }
}

opTest('add, fill, gather_rows, sum_squares, clip_factor', (plan) => {
  const n = 20000;
  const next = random(3);
  const [a, b] = [next(n), next(n)];
  const [as, bs, sum, filled] = [plan.tensor([n], a), plan.tensor([n], b), plan.tensor([n]), plan.tensor([n])];
  const index = [7, 0, 7, 399];
  const gathered = plan.tensor([4, 50]);
  const [s, norm, factor, free, kept] = range(5).map(() => plan.tensor([1])) as [
    TensorHandle,
    TensorHandle,
    TensorHandle,
    TensorHandle,
    TensorHandle,
  ];
  plan.op('add', [as, bs], [sum]);
  plan.op('fill', [], [filled], [1.5]);
  plan.op('gather_rows', [plan.tensor([400, 50], a), plan.ints(index)], [gathered]);
  plan.op('sum_squares', [as], [s], [0]);
  plan.op('sum_squares', [bs], [s], [1]);
  plan.op('clip_factor', [s], [norm, factor], [1]);
  plan.op('clip_factor', [s], [free, kept], [0]);
  const squares = [...a, ...b].reduce((total, x) => total + x * x, 0);
  return [
    [sum, a.map((x, i) => x + b[i]!), 1e-6],
    [filled, a.map(() => 1.5)],
    [gathered, index.flatMap((row) => a.slice(row * 50, (row + 1) * 50))],
    [s, [squares], 1e-6],
    [norm, [Math.sqrt(squares)], 1e-6],
    [factor, [1 / (Math.sqrt(squares) + 1e-6)], 1e-6],
    [kept, [1]],
  ];
});

for (const adamWMode of [0, 1]) {
  for (const biasCorrection of [0, 1]) {
    opTest(`adamw, adamWMode ${adamWMode}, biasCorrection ${biasCorrection}`, (plan) => {
      const [n, decayEnd, step, lr, factor] = [9001, 5003, 3, 0.01, 0.5];
      const [beta1, beta2, eps, decay] = [0.9, 0.99, 1e-6, 0.1];
      const next = random(step);
      const [p, m, g] = [next(n), next(n), next(n)];
      const v = next(n).map(Math.abs);
      const tensors = [p, m, v].map((values) => plan.tensor([n], values));
      const scalars = [factor, lr, step].map((value) => plan.tensor([1], [value]));
      const attributes = [beta1, beta2, eps, decay, decayEnd, adamWMode, biasCorrection];
      plan.op('adamw', [...tensors, plan.tensor([n], g), ...scalars], tensors, attributes);
      const want = range(n).map((i) => {
        const own = i < decayEnd ? decay : 0;
        const grad = g[i]! * factor + (adamWMode ? 0 : own * p[i]!);
        const shrunk = adamWMode ? p[i]! * (1 - lr * own) : p[i]!;
        const m1 = beta1 * m[i]! + (1 - beta1) * grad;
        const v1 = beta2 * v[i]! + (1 - beta2) * grad * grad;
        const [c1, c2] = biasCorrection ? [1 - beta1 ** step, 1 - beta2 ** step] : [1, 1];
        return [shrunk - (lr * (m1 / c1)) / (Math.sqrt(v1 / c2) + eps), m1, v1] as const;
      });
      return tensors.map((tensor, which) => [tensor, want.map((row) => row[which]!), 1e-5]) as [
        TensorHandle,
        number[],
        number,
      ][];
    });
  }
}

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
