// One plan of ops on every device, compared with what a plain reference says.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEVICES } from '../support/devices.js';
import { PlanWriter, type TensorHandle } from '../support/native-plan.js';

function close(actual: readonly number[], expected: readonly number[], what: string, tolerance = 2e-5): void {
  assert.equal(actual.length, expected.length, what);
  const scale = Math.max(1e-3, Math.sqrt(expected.reduce((sum, x) => sum + x * x, 0) / expected.length));
  for (const [i, x] of actual.entries()) {
    const error = Math.abs(x - expected[i]!) / scale;
    assert.ok(error <= tolerance, `${what}[${i}] is ${x}, expected ${expected[i]} (error ${error} of the rms)`);
  }
}

/** One plan run on every device; `check` compares what it left. */
export function opTest(
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
