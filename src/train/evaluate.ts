// Measures a model on held-out instructions: how often its greedy answer is exactly right, and its perplexity on the answers.
import {
  type ChatMessage,
  layOutRows,
  type PlacedRecord,
  type PromptTemplate,
  promptAndAnswer,
  sizesOf,
  Tokenizer,
  type TokenizerFiles,
  tokenise,
  trainedTokens,
} from '../data/index.js';
import type { ParameterStore } from '../engine/index.js';
import { Generator } from '../infer/index.js';
import type { Model } from '../models/index.js';
import { forwardRows, lossOfLabels, withModel } from './evaluate-rows.js';

/** A question of a held-out set with the answer of a model. */
export interface Answer {
  readonly prompt: string;
  readonly expected: string;
  readonly answer: string;
  readonly isExact: boolean;
}

/** Figures of a model on held-out instructions, or on a part of them. */
export interface Evaluation {
  /** Sum of the losses of the answers' tokens, in nats, and how many these are: parts of a set can be added up. */
  readonly lossSum: number;
  readonly tokens: number;
  /** In the order of the records; a chat is asked for its last reply. Prompts that fill a sequence have none. */
  readonly answers: readonly Answer[];
}

/** How instructions are worded, cut and answered. */
export interface EvaluationOptions {
  readonly template: PromptTemplate;
  readonly sequenceLength: number;
  /** Longest answer to decode; 0 measures the perplexity alone. */
  readonly maxNewTokens: number;
  readonly threads: number;
}

const SLOTS = 32; // answers decoded at a time

/** Evaluates the Hugging Face folder `path` in the type that it was trained and saved in. A task: everything it needs is in its arguments and the folder. */
export async function evaluateFolder(
  path: string,
  tokenizerFiles: TokenizerFiles,
  records: readonly PlacedRecord[],
  options: EvaluationOptions,
): Promise<Evaluation> {
  const tokenizer = new Tokenizer(tokenizerFiles);
  return withModel(path, options.threads, (model, store) => evaluate(model, store, tokenizer, records, options));
}

/** Evaluates weights that are in a device's memory already. */
export async function evaluate(
  model: Model,
  store: ParameterStore,
  tokenizer: Tokenizer,
  records: readonly PlacedRecord[],
  options: EvaluationOptions,
): Promise<Evaluation> {
  const loss = await answerLoss(model, store, tokenizer, records, options);
  const answers = options.maxNewTokens > 0 ? await answer(model, store, tokenizer, records, options) : [];
  return { ...loss, answers };
}

async function answerLoss(
  model: Model,
  store: ParameterStore,
  tokenizer: Tokenizer,
  records: readonly PlacedRecord[],
  { template, sequenceLength }: EvaluationOptions,
): Promise<{ readonly lossSum: number; readonly tokens: number }> {
  const shard = await tokenise(records, tokenizer, { template, maxTokens: sequenceLength, skipBad: true });
  const { lengths } = sizesOf([shard], trainedTokens);
  const layOut = (rows: readonly (readonly number[])[]) =>
    layOutRows(rows, [shard], sequenceLength, tokenizer.padId ?? 0);
  let lossSum = 0;
  let tokens = 0;
  for await (const { batch, result } of forwardRows(model, store, lengths, sequenceLength, layOut)) {
    lossSum += lossOfLabels(batch, result);
    tokens += batch.labelCount;
  }
  return { lossSum, tokens };
}

async function answer(
  model: Model,
  store: ParameterStore,
  tokenizer: Tokenizer,
  records: readonly PlacedRecord[],
  { template, sequenceLength, maxNewTokens }: EvaluationOptions,
): Promise<Answer[]> {
  const questions = records.flatMap(({ record }) =>
    record.kind === 'chat' ? lastReply(record.messages, tokenizer) : [promptAndAnswer(record, template)],
  );
  const prompts = await tokenizer.encodeBatch(questions.map(({ prompt }) => prompt));
  const positions = Math.min(model.maxPositions, sequenceLength);
  const fitting = questions.flatMap((question, index) => {
    const prompt = prompts[index]!;
    return prompt.length > 0 && prompt.length < positions ? [{ ...question, ids: prompt }] : [];
  });
  using generator = new Generator({ model, store, slots: SLOTS, positions });
  const eosTokenIds = tokenizer.eosId === null ? model.eosTokenIds : [tokenizer.eosId, ...model.eosTokenIds];
  const generations = await generator.generate(
    fitting.map(({ ids }) => ids),
    { maxNewTokens, eosTokenIds },
  );
  const stops = new Set(eosTokenIds);
  return Promise.all(
    fitting.map(async ({ prompt, answer: expected }, index) => {
      const ids = generations[index]!.ids.filter((id) => !stops.has(id));
      const text = (await tokenizer.decode(ids)).trim();
      return { prompt, expected: expected.trim(), answer: text, isExact: text === expected.trim() };
    }),
  );
}

/** A chat as a question: everything before its last message, which must be the assistant's. */
function lastReply(
  messages: readonly ChatMessage[],
  tokenizer: Tokenizer,
): readonly { readonly prompt: string; readonly answer: string }[] {
  const last = messages.at(-1);
  if (last?.role !== 'assistant' || messages.length < 2) return [];
  const prompt = tokenizer.applyChatTemplate(messages.slice(0, -1), { addGenerationPrompt: true }).text;
  return [{ prompt, answer: last.content }];
}

/** Adds up the parts of an evaluated set. */
export function summarise(parts: readonly Evaluation[]): {
  readonly exactMatch: number;
  /** Mean over the answers' tokens, in nats. */
  readonly loss: number;
  readonly perplexity: number;
  readonly answers: readonly Answer[];
} {
  const answers = parts.flatMap((part) => part.answers);
  const exact = answers.filter(({ isExact }) => isExact).length;
  const lossSum = parts.reduce((sum, part) => sum + part.lossSum, 0);
  const tokens = parts.reduce((sum, part) => sum + part.tokens, 0);
  const loss = lossSum / Math.max(1, tokens);
  return {
    exactMatch: exact / Math.max(1, answers.length),
    loss,
    perplexity: Math.exp(loss),
    answers,
  };
}
