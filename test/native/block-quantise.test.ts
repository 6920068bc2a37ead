// block_quantise and block_dequantise against the reference, bit by bit, for each device and type.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dequantise, payloadBytes, quantise } from '#src/engine/index.js';
import { native } from '#src/native/index.js';
import { DEVICES } from '../support/devices.js';
import { PlanWriter } from '../support/native-plan.js';
import { random } from './engine-reference.js';

/** The payload of one part, as the header of the op lays it out. */
function payloadOf(values: Float32Array, bits: 4 | 8, block: number): Uint8Array {
  const { q, scale } = quantise(values, bits, block);
  const bytes = new Uint8Array(payloadBytes(values.length, bits, block));
  if (bits === 8) bytes.set(new Uint8Array(q.buffer));
  else for (let i = 0; i < q.length; i += 2) bytes[i / 2] = (q[i]! & 15) | ((q[i + 1]! & 15) << 4);
  new Float32Array(bytes.buffer, (values.length * bits) / 8).set(scale);
  return bytes;
}

const FORMS = [
  { bits: 8, n: 96, block: 64, parts: 1, columns: 1 },
  { bits: 8, n: 2080, block: 512, parts: 4, columns: 1 },
  { bits: 4, n: 160, block: 64, parts: 6, columns: 3 },
  { bits: 4, n: 4096, block: 256, parts: 4, columns: 2 },
  { bits: 4, n: 9024, block: 2048, parts: 3, columns: 1 },
] as const;

for (const { name: where, open } of DEVICES)
  for (const type of ['f32', 'bf16', 'f16'] as const)
    for (const { bits, n, block, parts, columns } of FORMS) {
      const form = `${bits} bits, ${parts} parts of ${n}, ${columns} columns`;
      test(`${form}, ${type}: the bytes and the sums of the reference (${where})`, async () => {
        const next = random(n + parts);
        // Whole blocks of zeros, steps of all sizes, ties.
        const drawn = next(parts * n).map((x, i) => (i % 640 < 64 ? 0 : x * 2 ** ((i >> 6) % 9)));
        const plan = new PlanWriter();
        const bytes = parts * payloadBytes(n, bits, block);
        const source = plan.tensor([parts * n], drawn);
        const x = plan.tensor([parts * n], null, type);
        const rounded = plan.tensor([parts * n]);
        plan.op('cast', [source], [x]);
        plan.op('cast', [x], [rounded]);
        const y = plan.tensor([bytes], null, 'u8');
        plan.op('block_quantise', [x], [y], [bits, block, parts, columns]);
        const whole = plan.tensor([parts * n]);
        plan.op('block_dequantise', [y], [whole], [bits, block, parts, 1]);
        const sums = plan.tensor([(parts * n) / columns]);
        plan.op('block_dequantise', [y], [sums], [bits, block, parts, columns]);
        const device = open();
        try {
          const loaded = plan.load(device);
          await loaded.program.run();
          const values = Float32Array.from(loaded.read(rounded));
          const rows = parts / columns;
          const part = (p: number) => values.subarray(p * n, (p + 1) * n);
          const order = Array.from({ length: parts }, (_, p) => (p % rows) * columns + Math.floor(p / rows));
          const payloads = order.map((p) => payloadOf(part(p), bits, block));
          assert.deepEqual(loaded.read(y), [...Buffer.concat(payloads)]);
          const back = order.map((p) => dequantise(quantise(part(p), bits, block), block));
          assert.deepEqual(
            loaded.read(whole),
            back.flatMap((one) => [...one]),
          );
          const expected = Array.from({ length: rows }, (_, p) => {
            const sum = Float32Array.from(back[p]!);
            for (let term = 1; term < columns; term++)
              back[term * rows + p]!.forEach((value, i) => {
                sum[i]! += value;
              });
            return [...sum];
          });
          assert.deepEqual(loaded.read(sums), expected.flat());
        } finally {
          device.dispose();
        }
      });
    }

test('a number that is not finite makes its block so, and no other', async () => {
  for (const { name: where, open } of DEVICES)
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const plan = new PlanWriter();
      const x = plan.tensor([128], [...new Array<number>(100).fill(1), bad, ...new Array<number>(27).fill(2)]);
      const y = plan.tensor([payloadBytes(128, 4, 64)], null, 'u8');
      plan.op('block_quantise', [x], [y], [4, 64, 1, 1]);
      const back = plan.tensor([128]);
      plan.op('block_dequantise', [y], [back], [4, 64, 1, 1]);
      const device = open();
      try {
        const loaded = plan.load(device);
        await loaded.program.run();
        const values = loaded.read(back);
        assert.ok(values.slice(0, 64).every(Number.isFinite));
        assert.ok(!values.slice(64).some(Number.isFinite), `${bad} on ${where}`);
      } finally {
        device.dispose();
      }
    }
});

test('forms that do not fit are refused by name', () => {
  const refused = (attributes: readonly number[], bytes: number, pattern: RegExp) => {
    const plan = new PlanWriter();
    plan.op('block_quantise', [plan.tensor([128])], [plan.tensor([bytes], null, 'u8')], attributes);
    const device = native().createDevice({ threads: 1, isa: null, pin: false });
    try {
      assert.throws(() => plan.load(device), pattern);
    } finally {
      device.dispose();
    }
  };
  refused([5, 64, 1, 1], 136, /"bits" is 5, expected 4 or 8/);
  refused([8, 48, 1, 1], 136, /"block" is 48, expected a multiple of 32/);
  refused([8, 64, 3, 1], 136, /128 numbers are not 3 equal parts of a multiple of 32/);
  refused([8, 64, 2, 4], 136, /columns/);
  refused([8, 64, 1, 1], 135, /the payloads have 135 bytes, expected 136/);
});
