// How float32 becomes bf16 on every instruction set: the same bits for all numbers, also where the CPU's own instruction takes those
// below 2^-126 for zeros.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { native } from '#src/native/index.js';
import { ISAS } from '../support/devices.js';
import { PlanWriter } from '../support/native-plan.js';

/** Round to nearest even; NaN keeps its upper bits and becomes quiet. */
function toBf16(bits: number): number {
  const isNan = (bits & 0x7fffffff) > 0x7f800000;
  return isNan ? (bits >>> 16) | 0x40 : ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** What is near a border, then every upper half with lower halves around a tie, subnormal numbers beside others. */
function patterns(): Uint32Array {
  const found: number[] = [0, 1, 0x7fff, 0x8000, 0x8001, 0x7fffff, 0x800000, 0x7f7fffff, 0x7f800000, 0x7f800001];
  for (let upper = 0; upper < 0x8000; upper += 3) {
    for (const lower of [0, 0x7fff, 0x8000, 0x8001, 0xffff]) found.push(((upper << 16) | lower) >>> 0);
  }
  const signed = found.flatMap((bits) => [bits, (bits | 0x80000000) >>> 0]);
  // In an order that brings numbers of all sizes into one vector, and once more as they are.
  const mixed = signed.map((_, i) => signed[(i * 7919) % signed.length]!);
  return Uint32Array.from([...signed, ...mixed]);
}

for (const isa of ISAS) {
  test(`float32 to bf16 on ${isa}: nearest even for every kind of number`, async () => {
    const device = native().createDevice({ threads: 2, isa, pin: false });
    try {
      const bits = patterns();
      const plan = new PlanWriter();
      const [wide, narrow] = [plan.tensor([bits.length]), plan.tensor([bits.length], null, 'bf16')];
      plan.op('cast', [wide], [narrow]);
      const loaded = plan.load(device);
      const { buffer, byteOffset } = loaded.view(wide);
      new Uint32Array(buffer, byteOffset, bits.length).set(bits);
      await loaded.program.run();
      const rounded = loaded.view(narrow);
      for (let i = 0; i < bits.length; i++) {
        if (rounded[i] !== toBf16(bits[i]!))
          assert.equal(rounded[i]!.toString(16), toBf16(bits[i]!).toString(16), `of ${bits[i]!.toString(16)}`);
      }
    } finally {
      device.dispose();
    }
  });
}
