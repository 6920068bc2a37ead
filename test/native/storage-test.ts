// Runs ops on 16-bit tensors and on float32 tensors that hold the same (rounded) numbers: what is stored in 16 bits may differ
// by their rounding, statistics and sums in float32 by hardly anything.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEVICES } from '../support/devices.js';
import { PlanWriter, type TensorHandle } from '../support/native-plan.js';

const TYPES = { bf16: 2 ** -8, f16: 2 ** -11 } as const; // half a step beside 1
type StorageType = keyof typeof TYPES;

/** An operand: real numbers in the op's storage type, or as they are (f32 statistics, integers). */
export interface Operand {
  readonly dims: readonly number[];
  readonly values: readonly number[];
  readonly kind: 'stored' | 'f32' | 'i32';
}
export interface Result {
  readonly dims: readonly number[];
  readonly kind: 'stored' | 'f32';
  /** The input on whose bytes the output lies. */
  readonly on?: number;
  /** Contents before: gradients that are added to. */
  readonly before?: readonly number[];
  /** How many roundings of the storage type the value may be off; default 1 when stored, 0 when f32. */
  readonly roundings?: number;
}
export interface Call {
  readonly op: string;
  readonly inputs: readonly Operand[];
  readonly outputs: readonly Result[];
  readonly attributes?: readonly number[];
}

export const stored = (values: readonly number[], ...dims: number[]): Operand => ({ dims, values, kind: 'stored' });
export const f32 = (values: readonly number[], ...dims: number[]): Operand => ({ dims, values, kind: 'f32' });
export const ints = (values: readonly number[]): Operand => ({ dims: [values.length], values, kind: 'i32' });
export const gives = (...dims: number[]): Result => ({ dims, kind: 'stored' });
export const givesF32 = (...dims: number[]): Result => ({ dims, kind: 'f32' });

/** Runs the call on tensors of `type` and of f32 in one plan; returns the pairs of results, both as float32. */
function place(plan: PlanWriter, call: Call, type: StorageType): readonly [TensorHandle, TensorHandle][] {
  const narrow: TensorHandle[] = [];
  const wide: TensorHandle[] = [];
  for (const { dims, values, kind } of call.inputs) {
    if (kind === 'i32') {
      const tensor = plan.tensor(dims, values, 'i32');
      narrow.push(tensor);
      wide.push(tensor);
    } else if (kind === 'f32') {
      narrow.push(plan.tensor(dims, values));
      wide.push(plan.tensor(dims, values));
    } else {
      const [exact, half, rounded] = [plan.tensor(dims, values), plan.tensor(dims, null, type), plan.tensor(dims)];
      plan.op('cast', [exact], [half]);
      plan.op('cast', [half], [rounded]);
      narrow.push(half);
      wide.push(rounded);
    }
  }
  const outputs = (inputs: readonly TensorHandle[], dtype: StorageType | 'f32') =>
    call.outputs.map(({ dims, kind, on, before }) =>
      on === undefined ? plan.tensor(dims, before ?? null, kind === 'f32' ? 'f32' : dtype) : inputs[on]!,
    );
  const [found, expected] = [outputs(narrow, type), outputs(wide, 'f32')];
  plan.op(call.op, narrow, found, call.attributes);
  plan.op(call.op, wide, expected, call.attributes);
  return found.map((tensor, i) => {
    if (tensor.dtype === 'f32') return [tensor, expected[i]!];
    const widened = plan.tensor(tensor.dims);
    plan.op('cast', [tensor], [widened]);
    return [widened, expected[i]!];
  });
}

/** Every instruction set alone, the best one with three threads, and CUDA. */
export function storageTest(name: string, calls: readonly Call[]): void {
  const devices = DEVICES.filter((device, at) => device.isCuda || at % 2 === 0 || DEVICES[at + 1]?.isCuda);
  for (const type of ['bf16', 'f16'] as const) {
    for (const { name: where, open } of devices) {
      test(`${name} in ${type} (${where})`, async () => {
        const plan = new PlanWriter();
        const placed = calls.map((call) => place(plan, call, type));
        const device = open();
        try {
          const loaded = plan.load(device);
          await loaded.program.run();
          for (const [at, call] of calls.entries()) {
            for (const [output, [found, expected]] of placed[at]!.entries()) {
              const { kind, roundings = kind === 'stored' ? 1 : 0 } = call.outputs[output]!;
              const tolerance = 2e-5 + roundings * TYPES[type];
              near(loaded.read(found), loaded.read(expected), `${call.op} output ${output}`, tolerance);
            }
          }
        } finally {
          device.dispose();
        }
      });
    }
  }
}

/** Errors relative to the value, or to the root mean square of all values where that is larger. */
function near(found: readonly number[], expected: readonly number[], what: string, tolerance: number): void {
  const rms = Math.sqrt(expected.reduce((sum, x) => sum + x * x, 0) / expected.length);
  for (const [i, x] of found.entries()) {
    const error = Math.abs(x - expected[i]!) / Math.max(1e-3, rms, Math.abs(expected[i]!));
    assert.ok(error <= tolerance, `${what}[${i}] is ${x}, in float32 ${expected[i]} (error ${error} of ${tolerance})`);
  }
}
