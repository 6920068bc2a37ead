// Cases that train: every loss and gradient norm of the curve, and the parameters at its end.
import { narrow, TrainStep, widen } from '#src/engine/index.js';
import { BF16_LIMITS, Checks, LIMITS } from './checks.js';
import type { CaseTensors } from './folder.js';
import { ALONE, type CaseRun } from './forward.js';
import { classified, labelCount, packRows, paddedRows } from './packing.js';

interface Settings {
  readonly weight_decay: number;
  readonly betas: readonly [number, number];
  readonly eps: number;
  readonly clip: number | null;
}

interface Step {
  readonly step: number;
  readonly micro_batches: readonly number[];
  readonly loss: number;
  readonly micro_losses: readonly number[];
  readonly gradient_norm: number;
  readonly lr: number;
}

interface FinalParameter {
  readonly norm: number;
  readonly abs_sum: number;
  readonly left_out?: readonly (readonly [number, number])[];
}

export async function runTrain(run: CaseRun, caseTensors: (name: string) => CaseTensors): Promise<Checks> {
  const { golden, subject, device } = run;
  const checks = new Checks();
  const settings = golden.settings as Settings;
  const isTokenWeighted = golden.name.includes('token_weighted');
  const pool = await readPool(caseTensors((golden.pool_of as string | undefined) ?? golden.name));
  const optimizer = {
    kind: 'adamw' as const,
    beta1: settings.betas[0],
    beta2: settings.betas[1],
    eps: settings.eps,
    weightDecay: settings.weight_decay,
    maxGradientNorm: settings.clip ?? 0,
  };
  const isBf16 = (golden.precision as string).startsWith('bfloat16');
  const limits = isBf16 ? BF16_LIMITS : LIMITS;
  const dtype = isBf16 ? 'bf16' : 'f32';
  const job = { model: subject.model, rows: pool[0]!.ids.length, strategy: ALONE, optimizer, dtype } as const;
  await using step = TrainStep.create({ ...job, device });
  // The masters of the reference start from the rounded parameters.
  const load = (name: string, values: Float32Array) =>
    step.parameters.load(name, isBf16 ? widen(new Uint8Array(narrow(values, 'bf16').buffer), 'bf16') : values);
  await subject.loadInto({ load });

  const errors: number[] = [];
  for (const row of golden.curve as readonly Step[]) {
    const batches = row.micro_batches.map((index) => pool[index]!);
    const labelled = batches.reduce((sum, batch) => sum + labelCount(batch), 0);
    let loss = 0;
    for (const [index, batch] of batches.entries()) {
      const scale = isTokenWeighted ? 1 / labelled : 1 / (labelCount(batch) * batches.length);
      const micro = await step.micro(batch, { scale, isFirst: index === 0 });
      loss += micro.loss;
      const share = isTokenWeighted ? micro.loss : micro.loss * batches.length;
      checks.add(`micro loss ${index} of step ${row.step}`, Math.abs(share - row.micro_losses[index]!), limits.curve);
    }
    const { gradientNorm } = await step.update({ lr: row.lr, step: row.step + 1 });
    errors.push(Math.abs(loss - row.loss));
    checks.add(`loss of step ${row.step}`, errors.at(-1)!, limits.curve);
    if (row.step === 0 || isBf16)
      checks.relative(`gradient norm of step ${row.step}`, gradientNorm, row.gradient_norm, limits.gradientNorm);
  }
  if (isBf16) checks.add('losses on average', errors.reduce((a, b) => a + b, 0) / errors.length, BF16_LIMITS.curveMean);
  for (const [name, expected] of Object.entries(golden.final_parameters as Readonly<Record<string, FinalParameter>>)) {
    const leftOut = expected.left_out ?? [];
    let squares = 0;
    for (const [i, value] of step.readParameter(name).entries()) {
      if (!leftOut.some(([start, end]) => i >= start && i < end)) squares += value ** 2;
    }
    checks.relative(`final norm of ${name}`, Math.sqrt(squares), expected.norm, limits.finalNorms);
  }
  return checks;
}

async function readPool(tensors: CaseTensors) {
  const [count, , length] = tensors.shape('pool/input_ids') as [number, number, number];
  const ids = await tensors.integers('pool/input_ids');
  const mask = await tensors.integers('pool/attention_mask');
  const labels = await tensors.integers('pool/labels');
  const types = tensors.has('pool/token_type_ids') ? await tensors.integers('pool/token_type_ids') : null;
  return Array.from({ length: count }, (_, index) => {
    const part = (values: Int32Array) => {
      const size = values.length / count;
      return values.subarray(index * size, (index + 1) * size);
    };
    const rows = paddedRows(part(ids), part(mask), part(labels), length);
    return types ? classified(rows, part(labels), part(types)) : packRows(rows);
  });
}
