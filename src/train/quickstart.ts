// The quickstart as one call: data, tokenizer, a small model, ZeRO-1 over the workers, evaluation before and after, a picture
// and a Hugging Face folder. Runs in the cluster that this process has joined; prints nothing.
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { put, task } from '../client/index.js';
import { ConfigError } from '../common/index.js';
import {
  generateInstructions,
  loadTokenizer,
  PLAIN_CHAT_TEMPLATE,
  type PlacedRecord,
  type PromptTemplate,
  promptAndAnswer,
  randomFrom,
  readRecords,
  seedOf,
  Tokenizer,
  trainBpe,
} from '../data/index.js';
import { layoutOf, ParameterStore } from '../engine/index.js';
import { initialise, modelFromConfig, saveModel } from '../models/index.js';
import { native } from '../native/index.js';
import type { DsConfigInput } from './ds-config.js';
import { type Answer, evaluateFolder, summarise } from './evaluate.js';
import { configOf } from './fresh-model.js';
import { lossCurve } from './loss-curve.js';
import type { TrainingEvent } from './progress.js';
import type { FreshModel } from './recipe.js';
import type { TrainingResult } from './run-state.js';
import { sft } from './sft.js';
import { Trainer } from './trainer.js';

/** What the quickstart trains on, and how long. */
export interface QuickstartOptions {
  /** A file, URL or hf:ID of instructions; null generates a set. */
  readonly data: string | null;
  /** A tokenizer's folder; null trains one on the data. */
  readonly tokenizer: string | null;
  readonly out: string;
  readonly maxSteps: number | null;
  readonly workers: number;
  readonly seed: number;
  readonly skipBad: boolean;
  readonly signal?: AbortSignal;
}

/** What the quickstart tells meanwhile. */
export type QuickstartEvent =
  | { readonly kind: 'phase'; readonly text: string }
  | {
      readonly kind: 'evaluated';
      readonly when: 'before' | 'after';
      readonly exactMatch: number;
      readonly perplexity: number;
    }
  | {
      readonly kind: 'read';
      readonly records: number;
      readonly skipped: number;
      readonly skippedPlaces: readonly string[];
    }
  | { readonly kind: 'training'; readonly event: TrainingEvent };

/** What the quickstart came to: the run, the model before and after it, and where its files are. */
export interface QuickstartResult {
  readonly training: TrainingResult;
  readonly before: Figures;
  readonly after: Figures;
  /** The same held-out questions answered by both models, of different kinds. */
  readonly samples: readonly { readonly before: Answer; readonly after: Answer }[];
  readonly heldOut: number;
  readonly skippedRecords: number;
  /** How a prompt is put to the model: the `--template` of `raylite generate`. */
  readonly template: PromptTemplate | 'chat';
  readonly modelPath: string;
  readonly curvePath: string;
}

/** A model on the held-out questions: share of answers that are exactly right, and e to the mean loss of their tokens. */
export interface Figures {
  readonly exactMatch: number;
  readonly perplexity: number;
}

/** What differs between the generated set and a set of the user's. */
interface Preset {
  readonly template: PromptTemplate;
  readonly sequenceLength: number;
  readonly vocabSize: number;
  readonly model: FreshModel;
  readonly maxSteps: number;
  readonly trainBatch: number;
  readonly learningRate: number;
  readonly maxNewTokens: number;
  readonly deepspeed: DsConfigInput;
}

const deepspeed = (trainBatch: number): DsConfigInput => ({
  train_batch_size: trainBatch,
  optimizer: { type: 'AdamW', params: { betas: [0.9, 0.99], weight_decay: 0.01 } },
  scheduler: { type: 'WarmupCosineLR', params: { warmup_num_steps: 20, warmup_type: 'linear', cos_min_ratio: 0.01 } },
  gradient_clipping: 1,
  zero_optimization: { stage: 1 },
});

const GENERATED: Preset = {
  template: 'short',
  sequenceLength: 256,
  vocabSize: 768,
  model: { kind: 'gpt2', layers: 4, hidden: 96, heads: 4 },
  maxSteps: 1100,
  trainBatch: 4,
  learningRate: 4e-3,
  maxNewTokens: 16,
  deepspeed: deepspeed(4),
};

const GIVEN: Preset = {
  template: 'alpaca',
  sequenceLength: 256,
  vocabSize: 4096,
  model: { kind: 'gpt2', layers: 4, hidden: 192, heads: 6 },
  maxSteps: 200,
  trainBatch: 8,
  learningRate: 2e-3,
  maxNewTokens: 48,
  deepspeed: deepspeed(8),
};

const TRAIN_RECORDS = 40_000;
const HELD_OUT_GENERATED = 320;
const HELD_OUT_SHARE_MAX = 0.1;
const HELD_OUT_GIVEN_MAX = 200;
const RUN = 'run';
const RECORDS_MIN = 2; // one to train on, one to ask about

/** Runs it all. Rejects with what went wrong; `signal` ends it. */
export async function quickstart(
  options: QuickstartOptions,
  onEvent: (event: QuickstartEvent) => void,
): Promise<QuickstartResult> {
  const preset = options.data === null ? GENERATED : GIVEN;
  const out = resolve(options.out);
  await mkdir(out, { recursive: true });

  onEvent({ kind: 'phase', text: options.data === null ? 'Generating instructions' : `Reading ${options.data}` });
  const set = await instructions(options, onEvent);
  options.signal?.throwIfAborted();
  const tokenizer = await tokenizerFor(options, preset, set.train);
  const trainer = new Trainer({
    recipe: sft({
      model: preset.model,
      // Real sets hold a few records without an answer: left out and counted, unlike malformed ones.
      data: { records: set.train, skipBad: true },
      tokenizer,
      sequenceLength: preset.sequenceLength,
      template: preset.template,
      maxSteps: options.maxSteps ?? preset.maxSteps,
      learningRate: preset.learningRate,
      seed: options.seed,
    }),
    scaling: { workers: options.workers },
    deepspeed: {
      ...preset.deepspeed,
      train_batch_size: Math.ceil(preset.trainBatch / options.workers) * options.workers,
    },
    run: { name: RUN, storage: out, failure: { maxFailures: 2 } },
  });
  await removeEarlier(join(out, RUN));

  onEvent({ kind: 'phase', text: `Evaluating the untrained model on ${set.heldOut.length} held-out instructions` });
  const untrained = join(out, 'untrained');
  await saveUntrained(untrained, preset, tokenizer, options.seed);
  const evaluateModel = evaluation(preset, tokenizer, set.heldOut, options.workers);
  const before = await evaluateModel(untrained);
  await rm(untrained, { recursive: true, force: true });
  onEvent({ kind: 'evaluated', when: 'before', ...figures(before) });
  options.signal?.throwIfAborted();

  const training = await trainer.fit({
    onProgress: (event) => onEvent({ kind: 'training', event }),
    ...(options.signal ? { signal: options.signal } : {}),
  });

  onEvent({ kind: 'phase', text: 'Evaluating the tuned model on the same instructions' });
  const after = await evaluateModel(training.model);
  onEvent({ kind: 'evaluated', when: 'after', ...figures(after) });
  const curvePath = join(out, 'loss.svg');
  const { parameterCount } = training.metrics;
  await writeFile(curvePath, lossCurve(training.losses, `Loss of the quickstart, ${parameterCount} parameters`));
  return {
    training,
    before: figures(before),
    after: figures(after),
    samples: samplesOf(before.answers, after.answers),
    heldOut: set.heldOut.length,
    skippedRecords: set.skipped,
    template: isChat(set.train) ? 'chat' : preset.template,
    modelPath: training.model,
    curvePath,
  };
}

const figures = ({ exactMatch, perplexity }: Figures): Figures => ({ exactMatch, perplexity });

/** Removes the run of an earlier quickstart, and nothing else that a user may have under that name. */
async function removeEarlier(run: string): Promise<void> {
  const entries = await readdir(run).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const foreign = entries.find((entry) => !/^(model|checkpoint-\d+)/.test(entry));
  if (foreign !== undefined)
    throw new ConfigError(
      'out',
      'a folder whose "run" is of an earlier quickstart',
      join(run, foreign),
      'Choose another',
    );
  await rm(run, { recursive: true, force: true });
}

const isChat = (records: readonly PlacedRecord[]): boolean => records[0]?.record.kind === 'chat';

async function instructions(
  options: QuickstartOptions,
  onEvent: (event: QuickstartEvent) => void,
): Promise<{
  readonly train: readonly PlacedRecord[];
  readonly heldOut: readonly PlacedRecord[];
  readonly skipped: number;
}> {
  if (options.data === null) {
    const set = generateInstructions({ train: TRAIN_RECORDS, heldOut: HELD_OUT_GENERATED, seed: options.seed });
    return { ...set, skipped: 0 };
  }
  const { records, skipped, skippedPlaces } = await readRecords(options.data, {
    skipBad: options.skipBad,
    ...(options.signal ? { signal: options.signal } : {}),
  });
  onEvent({ kind: 'read', records: records.length, skipped, skippedPlaces });
  if (records.length < RECORDS_MIN)
    throw new ConfigError('data', `at least ${RECORDS_MIN} records`, records.length, 'Some are held out to ask about');
  const shuffled = randomFrom(seedOf('held-out', options.seed)).shuffle(records);
  const heldOut = Math.min(HELD_OUT_GIVEN_MAX, Math.ceil(records.length * HELD_OUT_SHARE_MAX));
  return { heldOut: shuffled.slice(0, heldOut), train: shuffled.slice(heldOut), skipped };
}

async function tokenizerFor(
  options: QuickstartOptions,
  preset: Preset,
  records: readonly PlacedRecord[],
): Promise<Tokenizer> {
  if (options.tokenizer !== null) return loadTokenizer(options.tokenizer);
  const texts = records.map(({ record }) => {
    if (record.kind === 'chat') return record.messages.map(({ content }) => content).join('\n');
    const { prompt, answer } = promptAndAnswer(record, preset.template);
    return prompt + answer;
  });
  const files = await task(trainTokenizer)(texts, preset.vocabSize, options.data === null);
  return new Tokenizer(isChat(records) ? { ...files, 'chat_template.jinja': PLAIN_CHAT_TEMPLATE } : files);
}

/** A task, which workers find by this export: a vocabulary of `vocabSize` for `texts`. */
export function trainTokenizer(texts: readonly string[], vocabSize: number, splitDigits: boolean): Tokenizer['files'] {
  return trainBpe(texts, { vocabSize, splitDigits }).files;
}

/** The model that training starts from, as a folder that can be evaluated. */
async function saveUntrained(path: string, preset: Preset, tokenizer: Tokenizer, seed: number): Promise<void> {
  const facts = { vocabSize: tokenizer.vocabSize, sequenceLength: preset.sequenceLength, tokenizer };
  const model = modelFromConfig(configOf(preset.model, facts));
  const device = native().createDevice({ threads: 1, isa: null, pin: false });
  try {
    using store = new ParameterStore(device, layoutOf(model));
    initialise(model, seed, store);
    await saveModel(path, model, (name) => store.read(name));
  } finally {
    device.dispose();
  }
}

/** Evaluates in as many tasks as there are workers, each on its part of the held-out set. */
function evaluation(preset: Preset, tokenizer: Tokenizer, heldOut: readonly PlacedRecord[], parts: number) {
  const { template, sequenceLength, maxNewTokens } = preset;
  const files = put(tokenizer.files);
  const share = Math.ceil(heldOut.length / parts);
  return async (path: string) => {
    const evaluate = task(evaluateFolder);
    const options = { template, sequenceLength, maxNewTokens, threads: 1 };
    const refs = Array.from({ length: parts }, (_unused, part) =>
      evaluate(path, files, heldOut.slice(part * share, (part + 1) * share), options),
    );
    return summarise(await Promise.all(refs));
  };
}

/** The first eight; the kinds of the generated set come in turn. */
function samplesOf(before: readonly Answer[], after: readonly Answer[]): QuickstartResult['samples'] {
  return after.slice(0, 8).map((answer, index) => ({ before: before[index]!, after: answer }));
}
