// Casts, and the ops that move or norm numbers, on 16-bit tensors.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { native } from '#src/native/index.js';
import { DEVICES } from '../support/devices.js';
import { PlanWriter } from '../support/native-plan.js';
import { random, range } from './engine-reference.js';
import { f32, gives, givesF32, ints, type Result, storageTest, stored } from './storage-test.js';

for (const { name, open } of DEVICES) {
  test(`cast rounds to nearest even, keeps infinities, NaN and subnormals, and widens exactly (${name})`, async () => {
    const values = [
      ...[0, -0, 1, -1.5, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20, -1 - 2 ** -9],
      ...[1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -11 + 2 ** -20, 65504, 65519.99, 65520, -1e9, 3.4e38],
      ...[2 ** -14, 2 ** -24, 2 ** -25, 3 * 2 ** -25, 1.5 * 2 ** -25, -5.7 * 2 ** -20, 2 ** -126, 2 ** -133],
      ...[2 ** -134, 3 * 2 ** -134, 1e-40, Infinity, -Infinity, NaN, 0.1],
    ];
    const want = {
      bf16: [
        ...[0, 0x8000, 0x3f80, 0xbfc0, 0x3f80, 0x3f82, 0x3f81, 0xbf80, 0x3f80, 0x3f80, 0x3f80, 0x4780, 0x4780, 0x4780],
        ...[0xce6e, 0x7f80, 0x3880, 0x3380, 0x3300, 0x3440 - 0x80, 0x3340, 0xb6b6, 0x0080, 0x0001, 0, 0x0002, 0x0001],
        ...[0x7f80, 0xff80, null, 0x3dcd],
      ],
      f16: [
        ...[0, 0x8000, 0x3c00, 0xbe00, 0x3c04, 0x3c0c, 0x3c04, 0xbc02, 0x3c00, 0x3c02, 0x3c01, 0x7bff, 0x7bff, 0x7c00],
        ...[0xfc00, 0x7c00, 0x0400, 0x0001, 0, 0x0002, 0x0001, 0x805b, 0, 0, 0, 0, 0, 0x7c00, 0xfc00, null, 0x2e66],
      ],
    } as const;
    const plan = new PlanWriter();
    const x = plan.tensor([values.length], values);
    const cast = (['bf16', 'f16'] as const).map((type) => {
      const [half, back] = [plan.tensor([values.length], null, type), plan.tensor([values.length])];
      plan.op('cast', [x], [half]);
      plan.op('cast', [half], [back]);
      return [type, half, back] as const;
    });
    const device = open();
    try {
      const loaded = plan.load(device);
      await loaded.program.run();
      for (const [type, half, back] of cast) {
        const bits = loaded.read(half);
        const again = loaded.read(back);
        for (const [i, expected] of want[type].entries()) {
          const hex = (word: number) => `0x${word.toString(16)}`;
          if (expected === null) assert.ok(Number.isNaN(again[i]), `${type} of NaN is ${hex(bits[i]!)}`);
          else assert.equal(hex(bits[i]!), hex(expected), `${type} of ${values[i]}`);
        }
        const finite =
          type === 'bf16' ? bits.map((word) => new Float32Array(Uint32Array.of(word << 16).buffer)[0]!) : [];
        for (const [i, value] of finite.entries()) assert.ok(Object.is(again[i], value), `${type} ${bits[i]} widened`);
      }
    } finally {
      device.dispose();
    }
  });
}

test('an op refuses operands of two storage types and names both', () => {
  const plan = new PlanWriter();
  plan.op('add', [plan.tensor([4], null, 'bf16'), plan.tensor([4])], [plan.tensor([4], null, 'bf16')]);
  const device = native().createDevice({ threads: 1, isa: null, pin: false });
  try {
    assert.throws(() => plan.load(device), /input "b" is f32, expected bf16 as "a" is/);
  } finally {
    device.dispose();
  }
});

for (const n of [7, 20011]) {
  const next = random(n);
  const [a, b] = [next(n), next(n)];
  storageTest(`add, scale, copy, fill and gather_rows of ${n}`, [
    { op: 'add', inputs: [stored(a, n), stored(b, n)], outputs: [gives(n)] },
    { op: 'add', inputs: [stored(a, n), stored(b, n)], outputs: [{ ...gives(n), on: 0 }] },
    { op: 'scale', inputs: [stored(a, n)], outputs: [gives(n)], attributes: [0.7] },
    { op: 'copy', inputs: [stored(a, n)], outputs: [{ ...gives(n), roundings: 0 }] },
    { op: 'fill', inputs: [], outputs: [{ ...gives(n) }], attributes: [0.3] },
    {
      op: 'gather_rows',
      inputs: [stored(next(35), 5, 7), ints([4, 0, 4])],
      outputs: [{ ...gives(3, 7), roundings: 0 }],
    },
  ]);
}

for (const kind of range(8)) {
  const n = 1003;
  const next = random(kind);
  const x = range(n).map((i) => -12 + (24 * i) / n);
  const [dy, up] = [stored(next(n), n), stored(next(n), n)];
  storageTest(`activation ${kind}, gated, and gradients`, [
    { op: 'activation', inputs: [stored(x, n)], outputs: [gives(n)], attributes: [kind] },
    { op: 'activation_backward', inputs: [dy, stored(x, n)], outputs: [gives(n)], attributes: [kind] },
    { op: 'gated_activation', inputs: [stored(x, n), up], outputs: [gives(n)], attributes: [kind] },
    {
      op: 'gated_activation_backward',
      inputs: [dy, stored(x, n), up],
      outputs: [
        { ...gives(n), on: 1 },
        { ...gives(n), on: 2 },
      ],
      attributes: [kind],
    },
  ]);
}

for (const [n, d] of [
  [5, 7],
  [70, 129],
] as const) {
  const next = random(d);
  const rows = () => stored(next(n * d), n, d);
  const [gain, bias] = [stored(next(d), d), stored(next(d), d)];
  const [mean, rstd] = [f32(next(n), n), f32(next(n), n)];
  const before = next(d);
  const grown: Result = { ...givesF32(d), before };
  storageTest(`layer_norm and rms_norm ${n}x${d}`, [
    {
      op: 'layer_norm',
      inputs: [rows(), gain, bias],
      outputs: [gives(n, d), givesF32(n), givesF32(n)],
      attributes: [1e-5],
    },
    {
      op: 'add_layer_norm',
      inputs: [rows(), rows(), gain, bias],
      // The norm is that of the rounded sum.
      outputs: [
        { ...gives(n, d), on: 0 },
        { ...gives(n, d), roundings: 4 },
        { ...givesF32(n), roundings: 4 },
        { ...givesF32(n), roundings: 4 },
      ],
      attributes: [1e-5],
    },
    {
      op: 'layer_norm_backward',
      inputs: [rows(), rows(), gain, mean, rstd, rows(), f32([1], 1)],
      outputs: [gives(n, d), grown, grown],
      attributes: [0, 1],
    },
    {
      op: 'layer_norm_backward',
      inputs: [rows(), rows(), gain, mean, rstd, f32([0], 1)],
      outputs: [{ ...gives(n, d), on: 0 }, grown, grown],
      attributes: [0, 0],
    },
    { op: 'rms_norm', inputs: [rows(), gain], outputs: [gives(n, d), givesF32(n)], attributes: [1e-5] },
    {
      op: 'add_rms_norm',
      inputs: [rows(), rows(), gain],
      outputs: [gives(n, d), { ...gives(n, d), roundings: 4 }, { ...givesF32(n), roundings: 4 }],
      attributes: [1e-5],
    },
    {
      op: 'rms_norm_backward',
      inputs: [rows(), rows(), gain, rstd, rows(), f32([1], 1)],
      outputs: [{ ...gives(n, d), on: 4 }, grown],
      attributes: [0, 1],
    },
    { op: 'softmax', inputs: [rows()], outputs: [{ ...gives(n, d), on: 0 }] },
    { op: 'softmax_backward', inputs: [rows(), rows()], outputs: [{ ...gives(n, d), on: 0 }] },
  ]);
}

storageTest(
  'embedding, its gradient, rotary and dropout',
  (() => {
    const [n, v, d] = [9, 5, 19];
    const next = random(1);
    const ids = ints([0, 4, 4, 2, 1, 4, 0, 2, 2]);
    const table = stored(next(v * d), v, d);
    const grown: Result = { ...givesF32(v, d), before: next(v * d) };
    const [heads, headDim, rotaryDim, offset, stride, w, p] = [2, 10, 6, 3, 12, 27, 9];
    const angles = next((p * rotaryDim) / 2);
    return [
      { op: 'embedding', inputs: [ids, table], outputs: [{ ...gives(n, d), roundings: 0 }], attributes: [0] },
      {
        op: 'embedding',
        inputs: [ids, table, stored(next(n * d), n, d)],
        outputs: [{ ...gives(n, d), on: 2 }],
        attributes: [0],
      },
      ...[0, 1].map((beta) => ({
        op: 'embedding_backward',
        inputs: [ids, stored(next(n * d), n, d), f32([beta], 1)],
        outputs: [grown],
        attributes: [0, 0, -1],
      })),
      {
        op: 'rotary',
        inputs: [
          stored(next(6 * w), 6, w),
          f32(angles.map(Math.cos), p, rotaryDim / 2),
          f32(angles.map(Math.sin), p, rotaryDim / 2),
          ints([0, 8, 3, 3, 1, 7]),
        ],
        outputs: [gives(6, w)],
        attributes: [heads, headDim, rotaryDim, offset, stride, 1, 0],
      },
      {
        op: 'dropout',
        inputs: [stored(next(400), 2, 200), ints([7, 8, 9, 0])],
        outputs: [gives(2, 200)],
        attributes: [0.3, 1],
      },
    ];
  })(),
);
