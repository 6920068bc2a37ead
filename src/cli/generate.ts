// `raylite generate`: continues prompts with a model from a Hugging Face folder, on this machine.
import { availableParallelism } from 'node:os';
import type { Command } from 'commander';
import { ConfigError } from '../common/index.js';
import { loadTokenizer, promptOf, type Tokenizer } from '../data/index.js';
import { layoutOf, ParameterStore } from '../engine/index.js';
import { Generator } from '../infer/index.js';
import { Checkpoint } from '../models/index.js';
import { native } from '../native/index.js';
import { interruptible } from './interrupt.js';
import { amountOption } from './options.js';
import { print, printJson } from './output.js';

interface Options {
  readonly template: 'none' | 'alpaca' | 'short' | 'chat';
  readonly input: string;
  readonly maxNewTokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  readonly seed: number;
  readonly json?: true;
}

const TEMPLATES = ['none', 'alpaca', 'short', 'chat'];

export function register(program: Command): void {
  program
    .command('generate')
    .summary('continue prompts with a model')
    .description('Loads a Hugging Face folder on this machine and continues the prompts, all at once.')
    .argument('<model>', 'folder with config.json, model.safetensors and a tokenizer')
    .argument('<prompt...>', 'one or more prompts')
    .option('--template <name>', 'how a prompt is put: none, alpaca, short or chat', 'none')
    .option('--input <text>', 'the input of an instruction (alpaca and short)', '')
    .option('--max-new-tokens <n>', 'longest continuation', amountOption('--max-new-tokens'), 64)
    .option('--temperature <t>', '0 takes the most likely token', amountOption('--temperature'), 0)
    .option('--top-k <n>', 'draw from the n most likely tokens; 0: all', amountOption('--top-k'), 0)
    .option('--top-p <p>', 'draw from the most likely tokens that add up to p', amountOption('--top-p'), 1)
    .option('--min-p <p>', 'draw from tokens at least p times as likely as the likeliest', amountOption('--min-p'), 0)
    .option('--repetition-penalty <x>', 'above 1: repeats become less likely', amountOption('--repetition-penalty'), 1)
    .option('--seed <n>', 'of the draws', amountOption('--seed'), 0)
    .option('--json', 'print prompts and continuations as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  $ raylite generate quickstart-out/run/model --template short "Which number is larger? 31, 67"',
    )
    .action((model: string, prompts: string[], options: Options) =>
      interruptible((signal) => generate(model, prompts, options, signal)),
    );
}

async function generate(
  folder: string,
  prompts: readonly string[],
  options: Options,
  signal: AbortSignal,
): Promise<void> {
  if (!TEMPLATES.includes(options.template))
    throw new ConfigError('--template', `one of ${TEMPLATES.join(', ')}`, options.template);
  await using checkpoint = await Checkpoint.open(folder);
  const tokenizer = await loadTokenizer(folder);
  const texts = prompts.map((prompt) => put(prompt, options, tokenizer));
  const ids = await tokenizer.encodeBatch(texts, { addSpecialTokens: options.template === 'none' });
  const { model } = checkpoint;
  const device = native().createDevice({ threads: availableParallelism(), isa: null, pin: false });
  try {
    using store = new ParameterStore(device, layoutOf(model));
    await checkpoint.loadInto(store);
    const longest = Math.max(...ids.map((prompt) => prompt.length)) + options.maxNewTokens;
    using generator = new Generator({
      model,
      store,
      slots: Math.min(prompts.length, 16),
      positions: Math.min(longest, model.maxPositions),
    });
    const eosTokenIds = [...new Set([...model.eosTokenIds, ...(tokenizer.eosId === null ? [] : [tokenizer.eosId])])];
    const generations = await generator.generate(ids, { ...options, eosTokenIds, signal });
    const answers = await Promise.all(
      generations.map((generation) => tokenizer.decode(generation.ids, { skipSpecialTokens: true })),
    );
    if (options.json)
      printJson(prompts.map((prompt, index) => ({ prompt, text: answers[index], end: generations[index]?.end })));
    else for (const answer of answers) print(answer.trim());
  } finally {
    device.dispose();
  }
}

/** A prompt as the template puts it. */
function put(prompt: string, { template, input }: Options, tokenizer: Tokenizer): string {
  switch (template) {
    case 'none':
      return prompt;
    case 'chat':
      return tokenizer.applyChatTemplate([{ role: 'user', content: prompt }], { addGenerationPrompt: true }).text;
    case 'alpaca':
    case 'short':
      return promptOf(prompt, input, template);
  }
}
