// Cases that run a model once: forward, forward_backward, packed_forward_backward.
import { Forward, layoutOf, meshOf, ParameterStore, type TokenBatch, TrainStep } from '#src/engine/index.js';
import type { NativeDevice } from '#src/native/index.js';
import { Checks, LIMITS, rootMeanSquare } from './checks.js';
import type { CaseTensors, GoldenCase, GoldenFolder } from './folder.js';
import { classified, documentRows, labelCount, packRows, paddedRows } from './packing.js';
import type { Subject } from './subject.js';

/** Plain AdamW: what these cases use of a training job does not depend on it. */
export const OPTIMIZER = {
  kind: 'adamw',
  beta1: 0.9,
  beta2: 0.999,
  eps: 1e-8,
  weightDecay: 0,
  maxGradientNorm: 0,
} as const;
export const ALONE = { zeroStage: 0, mesh: meshOf(), rank: 0 } as const;

export interface CaseRun {
  readonly folder: GoldenFolder;
  readonly golden: GoldenCase;
  readonly tensors: CaseTensors;
  readonly subject: Subject;
  readonly device: NativeDevice;
}

export async function runForward(run: CaseRun): Promise<Checks> {
  const { golden, tensors } = run;
  const checks = new Checks();
  const ids = await tensors.integers('input_ids');
  const length = tensors.shape('input_ids')[1]!;
  const labels = await tensors.integers('labels');
  const isPacked = golden.kind === 'packed_forward_backward';
  const rows = isPacked
    ? documentRows(ids, await tensors.integers('document_ids'), labels, length)
    : paddedRows(ids, await tensors.integers('attention_mask'), labels, length);
  const isClassifier = tensors.has('token_type_ids');
  const batch = isClassifier ? classified(rows, labels, await tensors.integers('token_type_ids')) : packRows(rows);
  const isReal = (row: number) => rows.sequence[row] !== -1;

  await compareOutputs(run, checks, batch, isReal);
  if (golden.kind !== 'forward') await compareGradients(run, checks, batch);
  return checks;
}

async function compareOutputs(run: CaseRun, checks: Checks, batch: TokenBatch, isReal: (row: number) => boolean) {
  const { golden, tensors, subject } = run;
  const settings = { model: subject.model, rows: batch.ids.length, hasLogits: true, hasHiddenStates: true };
  using store = await loadStore(run);
  using forward = new Forward(settings, store);
  const result = await forward.run(batch);
  checks.add('loss', Math.abs(result.loss / labelCount(batch) - (golden.loss as number)), LIMITS.loss);
  const compare = async (name: string, found: Float32Array) => {
    const width = found.length / batch.ids.length;
    const expected = await tensors.floats(name);
    checks.arrays(name, found, expected, LIMITS.logits, (i) => isReal(Math.floor(i / width)));
  };
  // A classifier's logits stand once per sequence.
  const isPerSequence = tensors.shape('logits').length === 2;
  const perRow = result.logits!.length / batch.ids.length;
  const isLabelled = (i: number) => batch.labels[Math.floor(i / perRow)] !== -100;
  const logits = isPerSequence ? result.logits!.filter((_, i) => isLabelled(i)) : result.logits!;
  const expectedLogits = await tensors.floats('logits');
  const isCounted = (i: number) => isPerSequence || isReal(Math.floor(i / perRow));
  checks.arrays('logits', logits, expectedLogits, LIMITS.logits, isCounted);
  for (const [index, state] of result.hiddenStates.entries()) {
    if (tensors.has(`hidden_states/${index}`)) await compare(`hidden_states/${index}`, state);
  }
}

/** A store of its own with the checkpoint's weights. */
async function loadStore({ subject, device }: CaseRun): Promise<ParameterStore> {
  const store = new ParameterStore(device, layoutOf(subject.model));
  await subject.loadInto(store);
  return store;
}

async function compareGradients(run: CaseRun, checks: Checks, batch: TokenBatch): Promise<void> {
  const { golden, subject, device } = run;
  const settings = { model: subject.model, rows: batch.ids.length, strategy: ALONE, optimizer: OPTIMIZER };
  await using step = TrainStep.create({ ...settings, device });
  await subject.loadInto(step.parameters);
  const { loss } = await step.micro(batch, { scale: 1 / labelCount(batch), isFirst: true });
  checks.add('loss of the training program', Math.abs(loss - (golden.loss as number)), LIMITS.loss);

  await compareParameterGradients(run, checks, step, subject.trained);
}

/** The gradients that `step` holds against those of the case, and their norm. */
export async function compareParameterGradients(
  run: Pick<CaseRun, 'folder' | 'golden' | 'tensors'>,
  checks: Checks,
  step: TrainStep,
  names: readonly string[],
): Promise<void> {
  const { golden, tensors } = run;
  let squares = 0;
  const summaries = golden.gradients as undefined | Readonly<Record<string, { readonly sample_stride?: number }>>;
  for (const name of names) {
    const gradient = step.readGradient(name);
    squares += rootMeanSquare(gradient) ** 2 * gradient.length;
    const stride = summaries?.[name]?.sample_stride;
    const sample = stride === undefined ? gradient : gradient.filter((_, i) => i % stride === 0).subarray(0, 256);
    const expected = await tensors.floats(stride === undefined ? `grad/${name}` : `grad_sample/${name}`);
    const ranges = run.folder.idle[name] ?? [];
    const isIdle = (i: number) => ranges.some(([start, end]) => i * (stride ?? 1) >= start && i * (stride ?? 1) < end);
    const size = rootMeanSquare(expected, (i) => !isIdle(i));
    checks.arrays(
      `grad/${name}`,
      sample.map((value) => value / size),
      expected.map((value) => value / size),
      LIMITS.gradients,
      (i) => !isIdle(i),
    );
    if (ranges.length > 0) checks.arrays(`grad/${name} (idle)`, sample, expected, LIMITS.idleGradients, isIdle);
  }
  checks.relative('gradient_norm', Math.sqrt(squares), golden.gradient_norm as number, LIMITS.gradientNorm);
}
