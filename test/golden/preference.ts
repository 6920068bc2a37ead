// Cases of preference: log-probabilities of answers under a policy and its reference, and losses whose gradient by these (or by
// scores of sequences) the engine carries back into the model.
import { dirname, join } from 'node:path';
import { Forward, layoutOf, ParameterStore, type TokenBatch, TrainStep } from '#src/engine/index.js';
import { Checkpoint, initialise, type Model, modelFromConfig } from '#src/models/index.js';
import type { NativeDevice } from '#src/native/index.js';
import { Checks, LIMITS } from './checks.js';
import { type CaseTensors, findFolders, type GoldenCase, type GoldenFolder } from './folder.js';
import { ALONE, compareParameterGradients, OPTIMIZER } from './forward.js';
import { packRows, paddedRows } from './packing.js';

export interface PreferenceRun {
  readonly folder: GoldenFolder;
  readonly golden: GoldenCase;
  /** Of the case itself, or of another of the folder. */
  readonly caseTensors: (name: string) => CaseTensors;
  readonly device: NativeDevice;
}

type Runner = (run: PreferenceRun) => Promise<Checks>;

/** The runner of a case of this folder of preferences, or null. */
export function preferenceRunner({ model }: GoldenFolder, golden: GoldenCase): Runner | null {
  if (model === null) return null;
  if (golden.kind === 'log_probabilities') return runAnswers;
  if (golden.kind === 'preference_loss' && ['sigmoid', 'robust'].includes(golden.loss_type as string))
    return runPreferenceLoss;
  if (golden.kind === 'reward_loss' && golden.name === 'last_token') return runReward;
  return null;
}

interface Answers {
  readonly batch: TokenBatch;
  /** Tokens of a row of the reference, and rows. */
  readonly length: number;
  readonly count: number;
}

/** Labels are the tokens of the answers alone. */
async function answersOf(tensors: CaseTensors): Promise<Answers> {
  const [count, length] = tensors.shape('input_ids') as [number, number];
  const ids = await tensors.integers('input_ids');
  const mask = await tensors.integers('completion_mask');
  const labels = ids.map((id, i) => (mask[i] ? id : -100));
  return { batch: packRows(paddedRows(ids, await tensors.integers('attention_mask'), labels, length)), length, count };
}

async function logProbabilities(path: string, { batch }: Answers, device: NativeDevice): Promise<Float32Array> {
  await using checkpoint = await Checkpoint.open(path);
  using store = new ParameterStore(device, layoutOf(checkpoint.model));
  await checkpoint.loadInto(store);
  using forward = new Forward({ model: checkpoint.model, rows: batch.ids.length }, store);
  return (await forward.run(batch)).tokenLosses.map((loss) => -loss);
}

/** Sums over the tokens of each row. */
function sums(values: Float32Array, { count, length }: Answers): Float32Array {
  return Float32Array.from({ length: count }, (_, row) =>
    values.subarray(row * length, (row + 1) * length).reduce((sum, value) => sum + value, 0),
  );
}

const policyOf = ({ path, model }: GoldenFolder) => join(dirname(path), model!);

async function runAnswers({ folder, golden, caseTensors, device }: PreferenceRun): Promise<Checks> {
  const checks = new Checks();
  const tensors = caseTensors(golden.name);
  const answers = await answersOf(tensors);
  for (const [name, path] of [
    ['policy', policyOf(folder)],
    ['reference', join(folder.path, 'reference')],
  ] as const) {
    const found = await logProbabilities(path, answers, device);
    const shifted = found.filter((_, i) => i % answers.length !== answers.length - 1);
    checks.arrays(`${name}_token_logps`, shifted, await tensors.floats(`${name}_token_logps`), LIMITS.logits);
    const total = sums(found, answers);
    checks.arrays(`${name}_logps`, total, await tensors.floats(`${name}_logps`), 4 * LIMITS.logits);
  }
  return checks;
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const logSigmoid = (x: number) => -Math.log1p(Math.exp(-x));

/** Direct preference optimisation (arXiv:2305.18290 eq. 7), also with labels that are wrong now and then (arXiv:2403.00409). */
async function runPreferenceLoss({ folder, golden, caseTensors, device }: PreferenceRun): Promise<Checks> {
  const checks = new Checks();
  const tensors = caseTensors(golden.name);
  const answers = await answersOf(caseTensors('log_probabilities'));
  const policy = sums(await logProbabilities(policyOf(folder), answers, device), answers);
  const reference = sums(await logProbabilities(join(folder.path, 'reference'), answers, device), answers);
  const beta = golden.beta as number;
  const smoothing = golden.label_smoothing as number;
  const isRobust = golden.loss_type === 'robust';
  const [agree, differ, whole] = isRobust
    ? [1 - smoothing, -smoothing, 1 - 2 * smoothing]
    : [1 - smoothing, smoothing, 1];
  const pairs = answers.count / 2;
  const upstream = new Float32Array(answers.count); // gradient by the sum of each row
  const losses = Float32Array.from({ length: pairs }, (_, pair) => {
    const delta = beta * (policy[pair]! - policy[pair + pairs]! - reference[pair]! + reference[pair + pairs]!);
    const slope = (beta * (-agree * sigmoid(-delta) + differ * sigmoid(delta))) / whole / pairs;
    upstream[pair] = slope;
    upstream[pair + pairs] = -slope;
    return (-agree * logSigmoid(delta) - differ * logSigmoid(-delta)) / whole;
  });
  checks.arrays('losses', losses, await tensors.floats('losses'), 4 * LIMITS.logits);

  await using checkpoint = await Checkpoint.open(policyOf(folder));
  // The loss of a row of the engine is minus its log-probability.
  const weights = Float32Array.from(answers.batch.ids, (_, i) => -upstream[Math.floor(i / answers.length)]!);
  const loss = { isWeighted: true };
  const job = { model: checkpoint.model, rows: weights.length, strategy: ALONE, optimizer: OPTIMIZER, loss };
  await using step = TrainStep.create({ ...job, device });
  await checkpoint.loadInto(step.parameters);
  await step.micro({ ...answers.batch, weights }, { scale: 1, isFirst: true });
  await compareParameterGradients({ folder: withIdle(folder), golden, tensors }, checks, step, [
    ...checkpoint.parameters.keys(),
  ]);
  return checks;
}

/** The pairs of a reward model: the score of a sequence is that of its last token. */
async function runReward({ folder, golden, caseTensors, device }: PreferenceRun): Promise<Checks> {
  const checks = new Checks();
  const tensors = caseTensors(golden.name);
  const [count, length] = tensors.shape('input_ids') as [number, number];
  const ids = await tensors.integers('input_ids');
  const mask = await tensors.integers('attention_mask');
  const batch = packRows(
    paddedRows(
      ids,
      mask,
      ids.map(() => -100),
      length,
    ),
  );
  const last = Array.from({ length: count }, (_, row) => {
    const real = mask.subarray(row * length, (row + 1) * length).reduce((sum, value) => sum + value, 0);
    return row * length + real - 1;
  });

  await using base = await Checkpoint.open(policyOf(folder));
  const className = base.model.architecture.replace(/(LMHeadModel|ForCausalLM)$/, 'ForSequenceClassification');
  const model: Model = modelFromConfig({
    ...base.model.config,
    architectures: [className],
    num_labels: 1,
    id2label: null,
  });
  const load = async (target: { load(name: string, values: Float32Array): void }) => {
    initialise(model, 0, target);
    for (const name of base.parameters.keys())
      if (name !== base.model.outputName) target.load(name, await base.read(name));
    target.load('score.weight', await tensors.floats('head/weight'));
  };
  using store = new ParameterStore(device, layoutOf(model));
  await load(store);
  using forward = new Forward({ model, rows: ids.length, hasLogits: true }, store);
  const { logits } = await forward.run(batch);
  const scores = Float32Array.from(last, (row) => logits![row]!);
  checks.arrays('scores', scores, await tensors.floats('scores'), LIMITS.logits);

  const targets = new Float32Array(ids.length).fill(Number.NaN);
  const pairs = count / 2;
  let loss = 0;
  for (let pair = 0; pair < pairs; pair++) {
    const delta = scores[pair]! - scores[pair + pairs]!;
    loss -= logSigmoid(delta) / pairs;
    targets[last[pair]!] = -sigmoid(-delta) / pairs;
    targets[last[pair + pairs]!] = sigmoid(-delta) / pairs;
  }
  checks.add('loss', Math.abs(loss - (golden.loss as number)), LIMITS.loss);
  const objective = { objective: 'upstream' } as const;
  const job = { model, rows: ids.length, strategy: ALONE, optimizer: OPTIMIZER, loss: objective };
  await using step = TrainStep.create({ ...job, device });
  await load(step.parameters);
  await step.micro({ ...batch, targets }, { scale: 1, isFirst: true });
  const names = step.parameters.parameters.map(({ name }) => name);
  // What moves all scores alike moves no difference of two: the bias of the final norm learns nothing.
  const norm = names.find((name) => /^\D*\.(ln_f|final_layer_norm|norm)\.bias$/.test(name));
  const { idle } = withIdle(folder);
  const still = norm === undefined ? idle : { ...idle, [norm]: [[0, Number.POSITIVE_INFINITY] as const] };
  await compareParameterGradients({ folder: { ...folder, idle: still }, golden, tensors }, checks, step, names);
  return checks;
}

/** The folder with the idle parameters of its model's folder. */
function withIdle(folder: GoldenFolder): GoldenFolder {
  return { ...folder, idle: findFolders(policyOf(folder))[0]!.idle };
}
