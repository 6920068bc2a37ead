// Cases of single ops: forward and derivative on given numbers.
import { ACTIVATIONS, type Activation, type Tensor } from '#src/engine/index.js';
import { ropeOf } from '#src/models/index.js';
import type { NativeDevice } from '#src/native/index.js';
import { Checks, rootMeanSquare } from './checks.js';
import type { CaseTensors, GoldenCase } from './folder.js';
import { runAttention, runAttentionDecode, runRotary } from './op-attention.js';
import { runClip, runOptimizer } from './optimizer.js';
import { canFilter, runCasts, runFilter, runLossScale, runQuantise, runQuantisedMean, runSchedule } from './rules.js';
import { OpBench } from './run-ops.js';

/** Of the root mean square of a tensor: float32 sums of this length in another order. */
export const OP_LIMIT = 2e-5;

export interface OpRun {
  readonly golden: GoldenCase;
  readonly tensors: CaseTensors;
  readonly device: NativeDevice;
}

type Runner = (run: OpRun) => Promise<Checks>;

/** Builds the op and names its results after the case's tensors. */
type Build = (bench: OpBench, give: (name: string) => Promise<Tensor>, golden: GoldenCase) => Promise<void>;

const activation =
  (kind: Activation): Build =>
  async ({ graph }, give) => {
    const x = await give('x');
    graph.output('output', graph.activation('op', x, kind));
    const attributes = { kind: ACTIVATIONS[kind] };
    graph.output('grad/x', graph.op('activation_backward', 'op', [await give('upstream'), x], attributes)[0]!);
  };

const linear =
  (transposed: 0 | 1): Build =>
  async (bench, give) => {
    const { graph } = bench;
    const [x, weight, bias, dy] = [await give('x'), await give('weight'), await give('bias'), await give('upstream')];
    graph.output('output', graph.linear('op', x, weight, bias, transposed === 1));
    graph.output('grad/x', graph.op('linear_backward_input', 'op', [dy, weight], { transposed })[0]!);
    const attributes = { transposed, accumulate: 0, hasBias: 1 };
    const [dw, db] = graph.op('linear_backward_weight', 'op', [x, dy, bench.beta()], attributes);
    graph.output('grad/weight', dw!);
    graph.output('grad/bias', db!);
  };

const BUILDS: Readonly<Record<string, Build>> = {
  gelu_erf: activation('gelu_erf'),
  gelu_tanh: activation('gelu_tanh'),
  relu: activation('relu'),
  silu: activation('silu'),
  tanh: activation('tanh'),
  sigmoid: activation('sigmoid'),
  log_sigmoid: activation('log_sigmoid'),
  linear: linear(0),
  conv1d: linear(1),
  async softmax({ graph }, give) {
    const y = graph.softmax('op', await give('x'));
    graph.output('output', y);
    graph.output('grad/x', graph.op('softmax_backward', 'op', [await give('upstream'), y])[0]!);
  },
  async silu_mul({ graph }, give) {
    const [gate, up, dy] = [await give('gate'), await give('up'), await give('upstream')];
    graph.output('output', graph.gatedActivation('op', gate, up, 'silu'));
    const [dgate, dup] = graph.op('gated_activation_backward', 'op', [dy, gate, up], { kind: ACTIVATIONS.silu });
    graph.output('grad/gate', dgate!);
    graph.output('grad/up', dup!);
  },
  async layer_norm(bench, give, golden) {
    const { graph } = bench;
    const [x, gain, bias, dy] = [await give('x'), await give('weight'), await give('bias'), await give('upstream')];
    const [y, mean, rstd] = graph.op('layer_norm', 'op', [x, gain, bias], { eps: golden.eps as number });
    const inputs = [dy, x, gain, mean!, rstd!, bench.beta()];
    const gradients = graph.op('layer_norm_backward', 'op', inputs, { accumulate: 0, hasAddend: 0 });
    for (const [i, name] of ['grad/x', 'grad/weight', 'grad/bias'].entries()) graph.output(name, gradients[i]!);
    graph.output('output', y!);
  },
  async rms_norm(bench, give, golden) {
    const { graph } = bench;
    const [x, gain, dy] = [await give('x'), await give('weight'), await give('upstream')];
    const [y, rstd] = graph.op('rms_norm', 'op', [x, gain], { eps: golden.eps as number });
    const inputs = [dy, x, gain, rstd!, bench.beta()];
    const gradients = graph.op('rms_norm_backward', 'op', inputs, { accumulate: 0, hasAddend: 0 });
    for (const [i, name] of ['grad/x', 'grad/weight'].entries()) graph.output(name, gradients[i]!);
    graph.output('output', y!);
  },
};

const RUNNERS: Readonly<Record<string, Runner>> = {
  ...Object.fromEntries(Object.entries(BUILDS).map(([kind, build]) => [kind, (run: OpRun) => runBuild(run, build)])),
  attention: runAttention,
  attention_decode: runAttentionDecode,
  cross_entropy: runCrossEntropy,
  embedding: runEmbedding,
  log_probabilities: runLogProbabilities,
  rope_frequencies: runFrequencies,
  rotary: runRotary,
  optimizer: runOptimizer,
  clip: runClip,
  casts: runCasts,
  logits_filter: runFilter,
  loss_scale: runLossScale,
  quantise: runQuantise,
  quantised_mean: runQuantisedMean,
  schedule: runSchedule,
};

/** The runner of a case of one op, or null when its kind (or a setting of it) is not supported. */
export function opRunner(golden: GoldenCase): Runner | null {
  if (golden.kind === 'rotary' && !['neox', 'gptj'].includes(golden.style as string)) return null;
  if (golden.kind === 'optimizer' && !['Adam', 'AdamW', 'SGD'].includes(golden.optimizer as string)) return null;
  if (golden.kind === 'logits_filter' && !canFilter(golden)) return null;
  return Object.hasOwn(RUNNERS, golden.kind) ? RUNNERS[golden.kind]! : null;
}

/** Compares with the limit relative to the size of what was expected, times the condition of the problem. */
export function compareSized(
  checks: Checks,
  name: string,
  found: Float32Array,
  expected: Float32Array,
  condition = 1,
): void {
  const size = Math.max(rootMeanSquare(expected), Number.MIN_VALUE);
  const relative = (values: Float32Array) => values.map((value) => value / size);
  checks.arrays(name, relative(found), relative(expected), OP_LIMIT * condition);
}

async function runBuild({ golden, tensors, device }: OpRun, build: Build): Promise<Checks> {
  const checks = new Checks();
  const bench = new OpBench();
  const give = async (name: string) => bench.give(name, tensors.shape(name), await tensors.floats(name));
  await build(bench, give, golden);
  const condition = golden.kind === 'layer_norm' ? normCondition(await tensors.floats('x'), tensors.shape('x')[1]!) : 1;
  for (const [name, found] of await bench.run(device)) {
    compareSized(checks, name, found, await tensors.floats(name), condition);
  }
  return checks;
}

/**
 * How much a norm magnifies the rounding of its input: |mean| * rstd at worst. In the case layer_norm_near_constant the
 * reference itself is 8e-4 away from exact arithmetic.
 */
function normCondition(x: Float32Array, width: number): number {
  let worst = 1;
  for (let start = 0; start < x.length; start += width) {
    const row = x.subarray(start, start + width);
    const mean = row.reduce((sum, value) => sum + value, 0) / width;
    const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / width;
    worst = Math.max(worst, Math.abs(mean) / Math.sqrt(variance + 1e-5));
  }
  return worst;
}

async function runEmbedding({ golden, tensors, device }: OpRun): Promise<Checks> {
  const checks = new Checks();
  const bench = new OpBench();
  const ids = await tensors.integers('ids');
  const dims = tensors.shape('table') as readonly [number, number];
  const idRow = bench.give('ids', [ids.length], ids);
  const table = bench.give('table', dims, await tensors.floats('table'));
  const dy = bench.give('upstream', [ids.length, dims[1]], await tensors.floats('upstream'));
  bench.graph.output('output', bench.graph.embedding('op', idRow, table));
  const attributes = { accumulate: 0, offset: 0, paddingId: (golden.padding_id as number | null) ?? -1, rows: dims[0] };
  bench.graph.output(
    'grad/table',
    bench.graph.op('embedding_backward', 'op', [idRow, dy, bench.beta()], attributes)[0]!,
  );
  for (const [name, found] of await bench.run(device)) compareSized(checks, name, found, await tensors.floats(name));
  return checks;
}

/** The loss comes with the output matrix: the identity makes its input the logits. */
async function runCrossEntropy({ golden, tensors, device }: OpRun): Promise<Checks> {
  const checks = new Checks();
  const bench = new OpBench();
  const [rows, vocabulary] = tensors.shape('logits') as readonly [number, number];
  const labels = await tensors.integers('labels');
  const labelled = labels.filter((label) => label !== -100).length;
  const scale = golden.reduction === 'sum' ? 1 : 1 / Math.max(labelled, 1);
  const inputs = [
    bench.give('logits', [rows, vocabulary], await tensors.floats('logits')),
    identity(bench, vocabulary),
    bench.give('labels', [rows], labels),
    bench.give('scale', [1], Float32Array.of(scale)),
    bench.beta(),
  ];
  const labelSmoothing = golden.label_smoothing as number;
  const attributes = { transposed: 0, chunkRows: 8, accumulate: 0, hasBias: 0, labelSmoothing, zLoss: 0, weighted: 0 };
  const [loss, tokenLosses, dx] = bench.graph.op('linear_cross_entropy_grad', 'op', inputs, attributes);
  bench.graph.output('loss', loss!);
  bench.graph.output('losses', tokenLosses!);
  bench.graph.output('grad/logits', dx!);
  const found = await bench.run(device);
  const expected = (golden.loss as number | null) ?? 0; // without a label: no loss and no gradient
  checks.add('loss', Math.abs(found.get('loss')![0]! - expected) / Math.max(1, expected), OP_LIMIT);
  if (tensors.has('losses')) compareSized(checks, 'losses', found.get('losses')!, await tensors.floats('losses'));
  const gradient = tensors.has('grad/logits')
    ? await tensors.floats('grad/logits')
    : new Float32Array(rows * vocabulary);
  checks.arrays('grad/logits', found.get('grad/logits')!, gradient, OP_LIMIT * scale);
  return checks;
}

function identity(bench: OpBench, size: number): Tensor {
  const values = new Float32Array(size * size).map((_, i) => (i % (size + 1) === 0 ? 1 : 0));
  return bench.give('identity', [size, size], values);
}

/** Log-probabilities of given tokens and entropies of their distributions, chunk by chunk. */
async function runLogProbabilities({ tensors, device }: OpRun): Promise<Checks> {
  const checks = new Checks();
  const bench = new OpBench();
  const [rows, vocabulary] = tensors.shape('logits') as readonly [number, number];
  const inputs = [
    bench.give('logits', [rows, vocabulary], await tensors.floats('logits')),
    identity(bench, vocabulary),
    bench.give('labels', [rows], await tensors.integers('tokens')),
    bench.give('scale', [1], Float32Array.of(1)),
  ];
  const attributes = { transposed: 0, chunkRows: 8, hasBias: 0, labelSmoothing: 0, zLoss: 0, weighted: 0 };
  const [, losses, , entropies] = bench.graph.op('linear_cross_entropy', 'op', inputs, attributes);
  bench.graph.output('losses', losses!);
  bench.graph.output('entropies', entropies!);
  const found = await bench.run(device);
  const negated = found.get('losses')!.map((loss) => -loss);
  compareSized(checks, 'log_probabilities', negated, await tensors.floats('log_probabilities'));
  compareSized(checks, 'entropies', found.get('entropies')!, await tensors.floats('entropies'));
  return checks;
}

async function runFrequencies({ golden, tensors }: OpRun): Promise<Checks> {
  const checks = new Checks();
  const fields = {
    max_position_embeddings: golden.max_position_embeddings as number,
    rope_theta: golden.rope_theta as number,
    rope_scaling: golden.rope_scaling as null,
  };
  const expected = await tensors.floats('inverse_frequencies');
  const rope = ropeOf(fields, golden.head_dim as number, golden.name, golden.seq_len as number | undefined);
  const { frequencies: found, attentionFactor } = rope;
  checks.relative('attention factor', attentionFactor, golden.attention_factor as number, OP_LIMIT);
  checks.arrays(
    'relative error',
    found.map((value, i) => value / expected[i]!),
    expected.map(() => 1),
    OP_LIMIT,
  );
  return checks;
}
