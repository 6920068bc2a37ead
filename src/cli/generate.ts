// `raylite generate`: continues prompts with a model from a Hugging Face folder, on this machine.
import type { Command } from 'commander';
import { ConfigError } from '../common/index.js';
import { loadTokenizer, promptOf, type Tokenizer } from '../data/index.js';
import { createDevice, type FloatType, layoutOf, ParameterStore } from '../engine/index.js';
import { Generator, type TextGeneration, TextGenerator, type TextOptions } from '../infer/index.js';
import { Checkpoint, isAdapted, loadAdapter, readAdapter, storedType, withAdapter } from '../models/index.js';
import { interruptible } from './interrupt.js';
import { amountOption, bytesOption } from './options.js';
import { print, printJson } from './output.js';
import { type Prompt, readPrompts } from './read-prompts.js';

interface Options {
  readonly file?: string;
  readonly adapter?: string;
  readonly template: 'none' | 'alpaca' | 'short' | 'chat';
  readonly input: string;
  readonly maxNewTokens: number;
  readonly minNewTokens?: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly typicalP?: number;
  readonly repetitionPenalty?: number;
  readonly numBeams?: number;
  readonly lengthPenalty?: number;
  readonly numReturnSequences?: number;
  readonly stop?: readonly string[];
  readonly seed?: number;
  readonly slots: number;
  readonly cache?: number;
  readonly dtype: FloatType | 'auto';
  readonly stream?: true;
  readonly json?: true;
}

const TEMPLATES = ['none', 'alpaca', 'short', 'chat'];
const DTYPES = ['auto', 'f32', 'bf16', 'f16'];
const PROGRESS_MS = 200;

const EXAMPLES = `
Examples:
  $ raylite generate quickstart-out/run/model --template short "Which number is larger? 31, 67"
  $ raylite generate ./gpt2 "Once upon a time" --temperature 0.8 --top-p 0.95 --stop "The end" --stream
  $ raylite generate ./gpt2 --file prompts.txt --num-beams 4 --json > answers.json`;

export function register(program: Command): void {
  const amount = (flag: string) => [amountOption(flag)] as const;
  program
    .command('generate')
    .summary('continue prompts with a model')
    .description('Loads a Hugging Face folder on this machine and continues the prompts, all at once.')
    .argument('<model>', 'folder with config.json, model.safetensors and a tokenizer')
    .argument('[prompt...]', 'prompts; or use --file')
    .option('--file <path>', 'a prompt a line, as text or JSON with "prompt" or "messages"; - reads standard input')
    .option('--adapter <folder>', 'a LoRA adapter (as peft saves it) to put on the model')
    .option('--template <name>', 'how a prompt is put: none, alpaca, short or chat', 'none')
    .option('--input <text>', 'the input of an instruction (alpaca and short)', '')
    .option('--max-new-tokens <n>', 'longest continuation', amountOption('--max-new-tokens'), 64)
    .option('--min-new-tokens <n>', 'no end before', ...amount('--min-new-tokens'))
    .option('--temperature <t>', 'draw; below 1: the likelier more often; 0: the likeliest', ...amount('--temperature'))
    .option('--top-k <n>', 'draw from the n most likely tokens', ...amount('--top-k'))
    .option('--top-p <p>', 'draw from the most likely tokens that add up to p', ...amount('--top-p'))
    .option('--min-p <p>', 'draw from tokens at least p times as likely as the likeliest', ...amount('--min-p'))
    .option(
      '--typical-p <p>',
      'draw from the tokens of the most usual surprise that add up to p',
      ...amount('--typical-p'),
    )
    .option('--repetition-penalty <x>', 'above 1: repeats become less likely', ...amount('--repetition-penalty'))
    .option('--num-beams <n>', 'search for the likeliest text with n beams', ...amount('--num-beams'))
    .option('--length-penalty <x>', 'of beams: above 1 longer texts, below 1 shorter', Number)
    .option('--num-return-sequences <n>', 'continuations per prompt', ...amount('--num-return-sequences'))
    .option('--stop <text...>', 'end before this text')
    .option('--seed <n>', 'of the draws', ...amount('--seed'))
    .option('--slots <n>', 'sequences decoded at once', amountOption('--slots'), 16)
    .option('--cache <size>', 'memory for keys and values, as 2GiB; prompts wait for room', bytesOption('--cache'))
    .option('--dtype <type>', 'how weights and cache are stored: f32, bf16, f16, or auto: as config.json says', 'auto')
    .option('--stream', 'print the text as it comes (one prompt)')
    .option('--json', 'print prompts and continuations as JSON')
    .addHelpText('after', EXAMPLES)
    .action((model: string, prompts: string[], options: Options) =>
      interruptible((signal) => generate(model, prompts, options, signal)),
    );
}

async function generate(
  folder: string,
  given: readonly string[],
  options: Options,
  signal: AbortSignal,
): Promise<void> {
  if (!TEMPLATES.includes(options.template))
    throw new ConfigError('--template', `one of ${TEMPLATES.join(', ')}`, options.template);
  if (!DTYPES.includes(options.dtype)) throw new ConfigError('--dtype', `one of ${DTYPES.join(', ')}`, options.dtype);
  if (given.length > 0 === (options.file !== undefined))
    throw new ConfigError('--file', 'prompts as arguments or --file, one of them', options.file);
  const prompts = options.file === undefined ? given : await readPrompts(options.file);
  if (options.stream && (prompts.length > 1 || options.json || (options.numBeams ?? 1) > 1))
    throw new ConfigError('--stream', 'one prompt, without --json and --num-beams', prompts.length);
  await using checkpoint = await Checkpoint.open(folder);
  const tokenizer = await loadTokenizer(folder);
  const { adapter } = options;
  const model = adapter === undefined ? checkpoint.model : withAdapter(checkpoint.model, await readAdapter(adapter));
  const dtype = options.dtype === 'auto' ? storedType(checkpoint.model) : options.dtype;
  const texts = prompts.map((prompt) => put(prompt, options, tokenizer));
  const addSpecialTokens = options.template === 'none' && texts.every((_, i) => typeof prompts[i] === 'string');
  const lengths = (await tokenizer.encodeBatch(texts, { addSpecialTokens })).map((ids) => ids.length);
  const longest = lengths.reduce((most, length) => Math.max(most, length), 0) + options.maxNewTokens;
  const sequences = prompts.length * Math.max(options.numReturnSequences ?? 1, options.numBeams ?? 1);
  const device = createDevice();
  try {
    using store = new ParameterStore(device, layoutOf(model, dtype));
    await checkpoint.loadInto(store);
    if (adapter !== undefined && isAdapted(model)) await loadAdapter(adapter, model, store);
    using generator = new Generator({
      model,
      store,
      slots: Math.min(sequences, options.slots),
      positions: Math.min(longest, model.maxPositions),
      ...(options.cache === undefined ? {} : { cacheBytes: options.cache }),
    });
    const results = await run(
      new TextGenerator(generator, tokenizer),
      texts,
      {
        ...textOptions(options),
        addSpecialTokens,
        signal,
      },
      options.stream === true,
    );
    if (options.json) {
      printJson(
        results.map(({ prompt, text, end, score, ids }) => ({
          prompt: prompts[prompt],
          text,
          end,
          score,
          tokens: ids.length,
        })),
      );
    } else if (!options.stream) for (const { text } of results) print(text.trim());
  } finally {
    device.dispose();
  }
}

/** Collects what comes, and shows it or how far it is. */
async function run(
  generator: TextGenerator,
  texts: readonly string[],
  options: TextOptions,
  isStreamed: boolean,
): Promise<readonly TextGeneration[]> {
  const results: TextGeneration[] = [];
  const progress = new Progress(texts.length * (options.numReturnSequences ?? 1));
  for await (const event of generator.stream(texts, options)) {
    if (isStreamed) process.stdout.write(event.text);
    if (event.kind === 'end') results.push(event.generation);
    if (!isStreamed) progress.show(results.length, event.kind === 'text' ? 1 : 0);
  }
  if (isStreamed) print();
  progress.end();
  return results.sort((a, b) => a.prompt - b.prompt || a.sequence - b.sequence);
}

/** One line on a terminal that says how many sequences are done, redrawn. */
class Progress {
  readonly #total: number;
  readonly #isShown = process.stderr.isTTY;
  readonly #startMs = performance.now();
  #shownMs = 0;
  #tokens = 0;

  constructor(total: number) {
    this.#total = total;
  }

  show(done: number, newTokens: number): void {
    this.#tokens += newTokens;
    const nowMs = performance.now();
    if (!this.#isShown || this.#total < 2 || nowMs - this.#shownMs < PROGRESS_MS) return;
    this.#shownMs = nowMs;
    const speed = Math.round(this.#tokens / ((nowMs - this.#startMs) / 1000));
    process.stderr.write(`\r\u001B[K${done}/${this.#total} done, ${speed} tokens/s`);
  }

  end(): void {
    if (this.#shownMs > 0) process.stderr.write('\r\u001B[K');
  }
}

/** The options of the verb that are options of a generation. */
function textOptions(options: Options): TextOptions {
  const { file, adapter, template, input, stop, slots, cache, dtype, stream, json, ...rest } = options;
  return { ...rest, stopStrings: stop ?? [] };
}

/** A prompt as the template puts it. */
function put(prompt: Prompt, { template, input }: Options, tokenizer: Tokenizer): string {
  if (typeof prompt !== 'string') return tokenizer.applyChatTemplate(prompt, { addGenerationPrompt: true }).text;
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
