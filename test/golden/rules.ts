// Cases of rules without an op: filters of sampling, schedules, loss scales, casts and block quantisation.
import { dequantise, narrow, quantise, widen } from '#src/engine/index.js';
import {
  endsOfRepeatedRuns,
  forbid,
  keepMinP,
  keepTopK,
  keepTopP,
  penaliseRepetition,
  scaleByTemperature,
} from '#src/infer/index.js';
import { learningRate, nextLossScale, type Schedule, startLossScale } from '#src/train/index.js';
import { Checks, LIMITS } from './checks.js';
import type { GoldenCase } from './folder.js';
import { compareSized, OP_LIMIT, type OpRun } from './ops.js';

const RULED_OUT = -1e30; // how the vectors store minus infinity

const FILTERS: Readonly<Record<string, (logits: Float32Array, history: readonly number[], value: number) => void>> = {
  temperature: (logits, _, value) => scaleByTemperature(logits, value),
  top_k: (logits, _, value) => keepTopK(logits, value),
  top_p: (logits, _, value) => keepTopP(logits, value),
  min_p: (logits, _, value) => keepMinP(logits, value),
  repetition_penalty: penaliseRepetition,
  no_repeat_ngram: (logits, history, size) => forbid(logits, endsOfRepeatedRuns(history, size)),
};

export async function runFilter({ golden, tensors }: OpRun): Promise<Checks> {
  const checks = new Checks();
  const [rows, vocabulary] = tensors.shape('logits') as [number, number];
  const logits = await tensors.floats('logits');
  const history = await tensors.integers('history');
  const filters = [golden.filter].flat() as string[];
  const values = [golden.value].flat() as number[];
  const found = logits.slice();
  const probabilities = new Float32Array(logits.length);
  for (let row = 0; row < rows; row++) {
    const own = found.subarray(row * vocabulary, (row + 1) * vocabulary);
    const length = history.length / rows;
    const past = Array.from(history.subarray(row * length, (row + 1) * length));
    for (const [i, name] of filters.entries()) FILTERS[name]!(own, past, values[i]!);
    const total = own.reduce((sum, logit) => sum + Math.exp(logit), 0);
    probabilities.set(
      own.map((logit) => Math.exp(logit) / total),
      row * vocabulary,
    );
  }
  const stored = found.map((logit) => Math.max(logit, RULED_OUT));
  const expected = await tensors.floats('output');
  const isRuledOut = (logit: number) => Number(logit <= Math.fround(RULED_OUT));
  checks.arrays('what is ruled out', stored.map(isRuledOut), expected.map(isRuledOut), LIMITS.equal);
  checks.arrays('logits', stored, expected, OP_LIMIT, (i) => !isRuledOut(expected[i]!));
  if (tensors.has('probabilities')) {
    checks.arrays('probabilities', probabilities, await tensors.floats('probabilities'), OP_LIMIT);
  }
  return checks;
}

export function canFilter(golden: GoldenCase): boolean {
  return ([golden.filter].flat() as string[]).every((name) => Object.hasOwn(FILTERS, name));
}

export async function runSchedule({ golden }: OpRun): Promise<Checks> {
  const checks = new Checks();
  const rates = golden.rates as readonly number[];
  const schedule = {
    kind: golden.schedule,
    rate: golden.lr,
    warmupSteps: golden.warmup,
    totalSteps: golden.total,
    warmupType: golden.warmup_type,
    minRate: golden.warmup_min_lr,
    minRatio: golden.cos_min_ratio,
    warmupMinRatio: golden.warmup_min_ratio,
  } as Schedule;
  const found = rates.map((_, step) => learningRate(schedule, step));
  checks.arrays('rates', found, rates, 1e-12 * (golden.lr as number));
  return checks;
}

export async function runLossScale({ golden }: OpRun): Promise<Checks> {
  const checks = new Checks();
  const settings = {
    initialScalePower: golden.initial_scale_power as number,
    windowSteps: golden.loss_scale_window as number,
    hysteresis: golden.hysteresis as number,
    minScale: golden.min_loss_scale as number,
    isHysteresisConsecutive: golden.consecutive_hysteresis as boolean,
  };
  let state = startLossScale(settings);
  checks.add('initial scale', Math.abs(state.scale - (golden.initial_scale as number)), LIMITS.equal);
  const scales: number[] = [];
  const left: number[] = [];
  let givesUpAt: number | null = null;
  for (const [step, overflow] of (golden.overflows as readonly number[]).entries()) {
    try {
      state = nextLossScale(state, overflow === 1, settings);
    } catch {
      givesUpAt = step;
      break;
    }
    scales.push(state.scale);
    left.push(state.hysteresisLeft);
  }
  checks.arrays('scale', scales, golden.scale_after as readonly number[], LIMITS.equal);
  checks.arrays('hysteresis left', left, golden.hysteresis_left_after as readonly number[], LIMITS.equal);
  checks.add('step that gives up', givesUpAt === golden.gives_up_at ? 0 : 1, LIMITS.equal);
  return checks;
}

export async function runCasts({ tensors }: OpRun): Promise<Checks> {
  const checks = new Checks();
  const values = await tensors.floats('float32');
  for (const [name, dtype] of [
    ['bfloat16', 'bf16'],
    ['float16', 'f16'],
  ] as const) {
    const bits = narrow(values, dtype);
    const back = widen(new Uint8Array(bits.buffer), dtype);
    const expected = await tensors.floats(`${name}_as_float32`);
    const stored = await tensors.bytes(name);
    const expectedBits = new Uint16Array(stored.buffer, stored.byteOffset, stored.byteLength / 2);
    // Which of the many NaN comes out is nobody's promise.
    const isNumber = (i: number) => !Number.isNaN(expected[i]);
    checks.arrays(name, bits, expectedBits, LIMITS.equal, isNumber);
    const differing = expected.filter((value, i) => !Object.is(value, back[i]));
    checks.add(`${name} as float32, differing values`, differing.length, LIMITS.equal);
  }
  return checks;
}

export async function runQuantise({ golden, tensors }: OpRun): Promise<Checks> {
  const checks = new Checks();
  const block = golden.block as number;
  const found = quantise(await tensors.floats('x'), golden.bits as 4 | 8, block);
  await compareQuantised(checks, found, tensors, ['q', 'scale']);
  checks.arrays('dequantised', dequantise(found, block), await tensors.floats('dequantised'), LIMITS.equal);
  return checks;
}

/** Every rank quantises its share; the mean of what the others make of them is quantised once more. */
export async function runQuantisedMean({ golden, tensors }: OpRun): Promise<Checks> {
  const checks = new Checks();
  const block = golden.block as number;
  const bits = golden.bits as 4 | 8;
  const [ranks, length] = tensors.shape('x') as [number, number];
  const shares = quantise(await tensors.floats('x'), bits, block);
  await compareQuantised(checks, shares, tensors, ['q_of_ranks', 'scale_of_ranks']);
  const values = dequantise(shares, block);
  const mean = new Float32Array(length);
  for (let rank = 0; rank < ranks; rank++) {
    for (let i = 0; i < length; i++) mean[i] = mean[i]! + values[rank * length + i]!;
  }
  for (let i = 0; i < length; i++) mean[i] = mean[i]! / ranks;
  compareSized(checks, 'mean', mean, await tensors.floats('mean'));
  const again = quantise(await tensors.floats('mean'), bits, block);
  await compareQuantised(checks, again, tensors, ['q', 'scale']);
  checks.arrays('dequantised', dequantise(again, block), await tensors.floats('dequantised'), LIMITS.equal);
  return checks;
}

async function compareQuantised(
  checks: Checks,
  found: { readonly q: Int8Array; readonly scale: Float32Array },
  tensors: OpRun['tensors'],
  [q, scale]: readonly [string, string],
): Promise<void> {
  const bytes = await tensors.bytes(q);
  checks.arrays(q, found.q, new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength), LIMITS.equal);
  checks.arrays(scale, found.scale, await tensors.floats(scale), LIMITS.equal);
}
