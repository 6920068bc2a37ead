// Results too large for the caches are written around them: the same bits as in parts that are not.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { native } from '#src/native/index.js';
import { PlanWriter, type TensorHandle } from '../support/native-plan.js';

const [ROWS, WIDTH] = [8200, 1024]; // 33.6 MB in f32: each half is less than 32 MiB

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

interface Result {
  readonly y: TensorHandle;
  readonly sum: TensorHandle;
  readonly mean: TensorHandle;
  readonly rstd: TensorHandle;
}

for (const [name, write] of Object.entries(OPS)) {
  test(`${name} of ${ROWS} x ${WIDTH}: whole as in two parts`, async () => {
    const device = native().createDevice({ threads: 2, isa: null, pin: false });
    try {
      const plan = new PlanWriter();
      const matrix = () => plan.tensor([ROWS, WIDTH]);
      const column = () => plan.tensor([ROWS]);
      const operands = [matrix(), matrix(), column(), plan.tensor([WIDTH])];
      const result = (): Result => ({ y: matrix(), sum: matrix(), mean: column(), rstd: column() });
      const whole = result();
      const parts = result();
      write(plan, { rows: (tensor) => tensor, column: (tensor) => tensor }, operands, whole);
      for (const half of [0, 1]) {
        const at = (half * ROWS * 4) / 2;
        const part: Part = {
          rows: ({ offsetBytes }) => plan.at(offsetBytes + at * WIDTH, [ROWS / 2, WIDTH]),
          column: ({ offsetBytes }) => plan.at(offsetBytes + at, [ROWS / 2]),
        };
        write(plan, part, operands, parts);
      }
      const loaded = plan.load(device);
      for (const tensor of operands) {
        const view = loaded.view(tensor);
        for (let i = 0; i < view.length; i++) view[i] = ((i * 7919) % 1009) / 500 - 1;
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
  });
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
