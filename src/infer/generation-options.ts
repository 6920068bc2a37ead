// What can be asked of a generation: the names of Transformers' GenerationConfig in camel case. Everything is checked before
// anything runs; a name that is not known is refused.
import { ConfigError } from '../common/index.js';

/** How a token is drawn; filters apply in the order of Transformers' logits processors. */
export interface SamplingOptions {
  /** Draw the next token instead of taking the likeliest. Default: whether temperature, topK, topP, minP or typicalP is given. */
  readonly doSample?: boolean;
  /** Logits are divided by it before drawing. Default 1; 0 takes the likeliest token. */
  readonly temperature?: number;
  /** Draw from the k most likely tokens only; 0 (the default) means all. */
  readonly topK?: number;
  /** Draw from the fewest most likely tokens whose probabilities reach this sum; 1 (the default) means all. */
  readonly topP?: number;
  /** Draw from tokens at least this share as likely as the most likely one; 0 (the default) means all. */
  readonly minP?: number;
  /** Draw from the tokens whose surprise is nearest to the entropy, until their probabilities reach this sum; 1: all. */
  readonly typicalP?: number;
  /** Above 1: tokens of the prompt and the continuation become less likely. 1 (the default) changes nothing. */
  readonly repetitionPenalty?: number;
  /** No run of this many tokens comes twice; 0 (the default) allows all. */
  readonly noRepeatNgramSize?: number;
  /** Runs of ids that must not come. */
  readonly badWordsIds?: readonly (readonly number[])[];
  /** No end before so many new tokens. Default 0. */
  readonly minNewTokens?: number;
  /** Ids that end a sequence. Default: those of the model's configuration. */
  readonly eosTokenIds?: readonly number[];
  /** Equal seeds give equal draws for equal prompts. Default 0. */
  readonly seed?: number;
}

/** How long continuations are, how many, and how each token is chosen. Names and defaults are those of Transformers. */
export interface GenerateOptions extends SamplingOptions {
  readonly maxNewTokens: number;
  /** Sequences returned per prompt: draws, or the best beams. Default 1. */
  readonly numReturnSequences?: number;
  /** Above 1: beam search for the likeliest sequence. Default 1. */
  readonly numBeams?: number;
  /** Beams are compared by log p / length ** lengthPenalty. Default 1. */
  readonly lengthPenalty?: number;
  /**
   * When beam search ends: `true` as soon as numBeams sequences are complete, `false` (the default) when a better one is
   * unlikely, `"never"` when no better one is possible.
   */
  readonly earlyStopping?: boolean | 'never';
  /** Also give the n most likely tokens of each step with their log-probabilities. Default 0. */
  readonly topLogProbs?: number;
  /** Also return the logits that each token was chosen from. Not with beams. */
  readonly hasStepLogits?: boolean;
  /** Asked after each token that was drawn: true ends the sequence. Not with beams. */
  readonly isStopped?: (progress: Progress) => boolean | Promise<boolean>;
  readonly signal?: AbortSignal;
}

/** A sequence that grows: which prompt's, which of its sequences, and its new ids so far. */
export interface Progress {
  readonly prompt: number;
  readonly sequence: number;
  readonly ids: readonly number[];
}

type Check = readonly [expected: string, isGood: (value: never) => boolean];

const isCount = (value: number) => Number.isSafeInteger(value) && value >= 0;
const isPositive = (value: number) => Number.isSafeInteger(value) && value >= 1;
const isIds = (value: unknown) => Array.isArray(value) && value.every((id) => isCount(id as number));

const SAMPLING: Readonly<Record<keyof SamplingOptions, Check>> = {
  doSample: ['true or false', (value) => typeof value === 'boolean'],
  temperature: ['a number of at least 0', (value) => value >= 0],
  topK: ['an integer of at least 0', isCount],
  topP: ['a number above 0 and at most 1', (value) => value > 0 && value <= 1],
  minP: ['a number from 0 to 1', (value) => value >= 0 && value <= 1],
  typicalP: ['a number above 0 and at most 1', (value) => value > 0 && value <= 1],
  repetitionPenalty: ['a positive number', (value) => value > 0],
  noRepeatNgramSize: ['an integer of at least 0', isCount],
  badWordsIds: [
    'lists of ids, none empty',
    (value: unknown) => Array.isArray(value) && value.every((ids: unknown[]) => isIds(ids) && ids.length > 0),
  ],
  minNewTokens: ['an integer of at least 0', isCount],
  eosTokenIds: ['a list of ids', isIds],
  seed: ['an integer', (value) => Number.isSafeInteger(value)],
};

const GENERATION: Readonly<Record<keyof GenerateOptions, Check>> = {
  ...SAMPLING,
  maxNewTokens: ['a positive integer', isPositive],
  numReturnSequences: ['a positive integer', isPositive],
  numBeams: ['a positive integer', isPositive],
  lengthPenalty: ['a number', (value) => Number.isFinite(value)],
  earlyStopping: ['true, false or "never"', (value: unknown) => typeof value === 'boolean' || value === 'never'],
  topLogProbs: ['an integer of at least 0', isCount],
  hasStepLogits: ['true or false', (value) => typeof value === 'boolean'],
  isStopped: ['a function', (value) => typeof value === 'function'],
  signal: ['an AbortSignal', (value: unknown) => value instanceof AbortSignal],
};

/** Options with everything decided. */
export interface Sampling extends Required<SamplingOptions> {
  readonly badWordsIds: readonly (readonly number[])[];
}

export interface Settings extends Required<Omit<GenerateOptions, 'isStopped' | 'signal'>> {
  readonly isStopped: GenerateOptions['isStopped'] | null;
  readonly signal: AbortSignal | null;
}

/** Checks the options of choosing a token and fills in what is not given. */
export function samplingSettings(options: SamplingOptions, modelEosIds: readonly number[] = []): Sampling {
  check(options, SAMPLING);
  const { temperature, topK, topP, minP, typicalP } = options;
  const isAsked = [temperature, topK, topP, minP, typicalP].some((value) => value !== undefined);
  return {
    doSample: (options.doSample ?? isAsked) && temperature !== 0,
    temperature: temperature ?? 1,
    topK: topK ?? 0,
    topP: topP ?? 1,
    minP: minP ?? 0,
    typicalP: typicalP ?? 1,
    repetitionPenalty: options.repetitionPenalty ?? 1,
    noRepeatNgramSize: options.noRepeatNgramSize ?? 0,
    badWordsIds: options.badWordsIds ?? [],
    minNewTokens: options.minNewTokens ?? 0,
    eosTokenIds: options.eosTokenIds ?? modelEosIds,
    seed: options.seed ?? 0,
  };
}

/** Checks all options against each other and fills in what is not given. */
export function generationSettings(options: GenerateOptions, modelEosIds: readonly number[]): Settings {
  check(options, GENERATION);
  if (options.maxNewTokens === undefined) throw new ConfigError('maxNewTokens', 'a positive integer', undefined);
  const sampling = samplingSettings(pickSampling(options), modelEosIds);
  const settings = {
    ...sampling,
    maxNewTokens: options.maxNewTokens,
    numReturnSequences: options.numReturnSequences ?? 1,
    numBeams: options.numBeams ?? 1,
    lengthPenalty: options.lengthPenalty ?? 1,
    earlyStopping: options.earlyStopping ?? false,
    topLogProbs: options.topLogProbs ?? 0,
    hasStepLogits: options.hasStepLogits ?? false,
    isStopped: options.isStopped ?? null,
    signal: options.signal ?? null,
  };
  const { doSample, numBeams, numReturnSequences, minNewTokens, maxNewTokens } = settings;
  if (minNewTokens > maxNewTokens) {
    throw new ConfigError('minNewTokens', `at most maxNewTokens, ${maxNewTokens}`, minNewTokens);
  }
  if (numBeams > 1) {
    if (doSample) throw new ConfigError('numBeams', '1 where tokens are drawn', numBeams);
    if (numReturnSequences > numBeams) {
      throw new ConfigError('numReturnSequences', `at most numBeams, ${numBeams}`, numReturnSequences);
    }
    for (const name of ['hasStepLogits', 'isStopped', 'topLogProbs'] as const) {
      if (settings[name]) throw new ConfigError(name, 'nothing with numBeams above 1', options[name]);
    }
  } else if (!doSample && numReturnSequences > 1) {
    const hint = 'The likeliest token is always the same: set doSample or numBeams';
    throw new ConfigError('numReturnSequences', '1 where nothing is drawn', numReturnSequences, hint);
  }
  return settings;
}

function pickSampling(options: GenerateOptions): SamplingOptions {
  return Object.fromEntries(Object.entries(options).filter(([name]) => Object.hasOwn(SAMPLING, name)));
}

function check(options: object, checks: Readonly<Record<string, Check>>): void {
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(checks, name)) throw new ConfigError(name, `one of ${Object.keys(checks).join(', ')}`, value);
    const [expected, isGood] = checks[name]!;
    if (value !== undefined && !isGood(value as never)) throw new ConfigError(name, expected, value);
  }
}
