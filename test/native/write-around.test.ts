// Results too large for the caches are written around them: the same bits as in parts that are not.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { native } from '#src/native/index.js';
import { PlanWriter, type TensorHandle } from '../support/native-plan.js';

const WIDTH = 1024;
const ROWS = { f32: 5000, bf16: 10000 } as const; // 20.5 MB, more than 16 MiB: each half is less

interface Part {
  rows(tensor: TensorHandle): TensorHandle;
  column(tensor: TensorHandle): TensorHandle;
}

const OPS: Readonly<
  Record<string, (plan: PlanWriter, part: Part, operands: readonly TensorHandle[], result: Result) => void>
> = {
  softmax: (plan, { rows }, [x], { y }) => plan.op('softmax', [rows(x!)], [rows(y)]),
  softmax_backward: (plan, { rows }, [x, r], { y }) => plan.op('softmax_backward', [rows(x!), rows(r!)], [rows(y)]),
  add_layer_norm: (plan, { rows, column }, [x, r, , gain], { y, sum, mean, rstd }) =>
    plan.op(
      'add_layer_norm',
      [rows(x!), rows(r!), gain!, gain!],
      [rows(sum), rows(y), column(mean), column(rstd)],
      [1e-5],
    ),
  add_rms_norm: (plan, { rows, column }, [x, r, , gain], { y, sum, rstd }) =>
    plan.op('add_rms_norm', [rows(x!), rows(r!), gain!], [rows(sum), rows(y), column(rstd)], [1e-5]),
  layer_norm_backward: (plan, { rows, column }, [x, r, statistics, gain], { y }) => {
    const beta = plan.tensor([1], [0]);
    const operands = [rows(x!), rows(r!), gain!, column(statistics!), column(statistics!), beta];
    plan.op('layer_norm_backward', operands, [rows(y), plan.tensor([WIDTH]), plan.tensor([WIDTH])], [0, 0]);
  },
  rms_norm_backward: (plan, { rows, column }, [x, r, statistics, gain], { y }) => {
    const operands = [rows(x!), rows(r!), gain!, column(statistics!), plan.tensor([1], [0])];
    plan.op('rms_norm_backward', operands, [rows(y), plan.tensor([WIDTH])], [0, 0]);
  },
};

/** Element-wise: rows are of no concern to them. */
const ELEMENTWISE: typeof OPS = {
  add: (plan, { rows }, [x, r], { y }) => plan.op('add', [rows(x!), rows(r!)], [rows(y)]),
  copy: (plan, { rows }, [x], { y }) => plan.op('copy', [rows(x!)], [rows(y)]),
  gelu: (plan, { rows }, [x], { y }) => plan.op('activation', [rows(x!)], [rows(y)], [1]),
  gated_silu: (plan, { rows }, [x, r], { y }) => plan.op('gated_activation', [rows(x!), rows(r!)], [rows(y)], [4]),
  gated_silu_backward: (plan, { rows }, [x, r], { y, sum }) =>
    plan.op('gated_activation_backward', [rows(x!), rows(x!), rows(r!)], [rows(y), rows(sum)], [4]),
};

interface Result {
  readonly y: TensorHandle;
  readonly sum: TensorHandle;
  readonly mean: TensorHandle;
  readonly rstd: TensorHandle;
}

for (const dtype of ['f32', 'bf16'] as const) {
  for (const [name, write] of Object.entries({ ...OPS, ...ELEMENTWISE })) {
    test(`${name} of ${ROWS[dtype]} x ${WIDTH} ${dtype}: whole as in two parts`, () => comparesParts(dtype, write));
  }
}

async function comparesParts(dtype: keyof typeof ROWS, write: (typeof OPS)[string]): Promise<void> {
  const count = ROWS[dtype];
  const device = native().createDevice({ threads: 2, isa: null, pin: false });
  try {
    const plan = new PlanWriter();
    const matrix = () => plan.tensor([count, WIDTH], null, dtype);
    const column = () => plan.tensor([count]);
    const operands = [matrix(), matrix(), column(), plan.tensor([WIDTH], null, dtype)];
    const result = (): Result => ({ y: matrix(), sum: matrix(), mean: column(), rstd: column() });
    const whole = result();
    const parts = result();
    write(plan, { rows: (tensor) => tensor, column: (tensor) => tensor }, operands, whole);
    for (const half of [0, 1]) {
      const before = (half * count) / 2;
      const part: Part = {
        rows: ({ offsetBytes }) =>
          plan.at(offsetBytes + before * WIDTH * (dtype === 'f32' ? 4 : 2), [count / 2, WIDTH], dtype),
        column: ({ offsetBytes }) => plan.at(offsetBytes + before * 4, [count / 2]),
      };
      write(plan, part, operands, parts);
    }
    const loaded = plan.load(device);
    for (const tensor of operands) {
      const view = loaded.view(tensor);
      // As bf16: 1.0 and more, of either sign.
      const value = (i: number) => ((i * 7919) % 1009) / 500 - 1;
      for (let i = 0; i < view.length; i++) {
        view[i] = tensor.dtype === 'bf16' ? 0x3f80 + (i % 2) * 0x8000 + ((i * 7919) % 127) : value(i);
      }
    }
    await loaded.program.run();
    for (const key of ['y', 'sum', 'mean', 'rstd'] as const) {
      const [found, expected] = [loaded.view(whole[key]), loaded.view(parts[key])];
      assert.equal(Buffer.compare(bytesOf(found), bytesOf(expected)), 0, key);
    }
    assert.ok(loaded.view(whole.y).some((value) => value !== 0));
  } finally {
    device.dispose();
  }
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
