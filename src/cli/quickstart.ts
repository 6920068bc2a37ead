// `raylite quickstart`: a cluster, a data set, a small model tuned on it, and what it learned – in one command.
import { availableParallelism } from 'node:os';
import { isAbsolute, relative } from 'node:path';
import type { Command } from 'commander';
import { init } from '../client/index.js';
import { ConfigError, formatBytes } from '../common/index.js';
import { type QuickstartEvent, type QuickstartResult, quickstart } from '../train/index.js';
import { interruptible } from './interrupt.js';
import { duration, oneLine, paint, print, printJson } from './output.js';
import { TrainingView } from './training-view.js';

interface Options {
  readonly data?: string;
  readonly tokenizer?: string;
  readonly out: string;
  readonly maxSteps?: number;
  readonly workers: number;
  readonly seed: number;
  readonly skipBad?: true;
  readonly json?: true;
}

export function register(program: Command): void {
  program
    .command('quickstart')
    .summary('start a cluster and instruction-tune a small model')
    .description(
      'Starts a cluster of its own, tunes a small GPT-style model from scratch on instructions with ZeRO-1 over the workers, and shows what it learned.',
    )
    .option('--data <source>', 'Alpaca-format file, URL or hf:ID (default: a generated set)')
    .option('--max-steps <n>', 'optimizer steps', integer('--max-steps', 1))
    .option('--workers <n>', 'worker actors, one core each', integer('--workers', 1), 2)
    .option('--out <dir>', 'folder for the model, the loss curve and checkpoints', 'quickstart-out')
    .option('--tokenizer <dir>', 'tokenizer to use (default: one trained on the data)')
    .option('--skip-bad', 'leave malformed records out and count them')
    .option('--seed <n>', 'of everything random', integer('--seed', 0), 42)
    .option('--json', 'print the figures as JSON')
    .addHelpText('after', '\nExample:\n  $ raylite quickstart --data alpaca.jsonl --max-steps 100')
    .action((options: Options) => interruptible((signal) => run(options, signal)));
}

const integer =
  (flag: string, least: number) =>
  (text: string): number => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least) throw new ConfigError(flag, `an integer of at least ${least}`, text);
    return value;
  };

async function run(options: Options, signal: AbortSignal): Promise<void> {
  const view = new TrainingView();
  const startedMs = performance.now();
  // One logical core more than workers, so that data tasks have a place on any machine.
  await using cluster = await init({
    address: 'local',
    numCpus: Math.max(availableParallelism(), options.workers + 1),
  });
  signal.throwIfAborted();
  view.line(`A cluster with ${options.workers} workers runs on this machine: ${cluster.httpUrl}`);
  const running = quickstart(
    {
      data: options.data ?? null,
      tokenizer: options.tokenizer ?? null,
      out: options.out,
      maxSteps: options.maxSteps ?? null,
      workers: options.workers,
      seed: options.seed,
      skipBad: options.skipBad ?? false,
      signal,
    },
    (event) => {
      if (!signal.aborted) show(event, view);
    },
  );
  // Whatever it is doing when the user has had enough: its cluster ends, and with it all that it started.
  const result = await Promise.race([running, aborted(signal)]);
  view.end();
  if (options.json) printJson(asJson(result, performance.now() - startedMs));
  else tell(result, performance.now() - startedMs);
}

/** Rejects when `signal` aborts. */
const aborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });

function show(event: QuickstartEvent, view: TrainingView): void {
  switch (event.kind) {
    case 'phase':
      view.line(`${paint('bold', event.text, process.stderr)} …`);
      break;
    case 'evaluated':
      view.line(`${event.when} training: ${figures(event)}`);
      break;
    case 'read':
      if (event.skipped > 0)
        view.line(
          `${event.skipped} malformed ${event.skipped === 1 ? 'record' : 'records'} left out: ${event.skippedPlaces.join(', ')}${event.skipped > event.skippedPlaces.length ? ', …' : ''}`,
        );
      break;
    case 'training':
      view.show(event.event);
      break;
  }
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
const figures = (of: { readonly exactMatch: number; readonly perplexity: number }): string =>
  `exact match ${percent(of.exactMatch)}, perplexity ${of.perplexity.toFixed(2)}`;

function tell(result: QuickstartResult, tookMs: number): void {
  const { metrics } = result.training;
  const width = Math.min(100, process.stdout.columns || 100) - '  expected  '.length;
  const short = (text: string): string => {
    const line = oneLine(text);
    return line.length > width ? `${line.slice(0, width - 1)}…` : line;
  };
  print();
  for (const { before, after } of result.samples) {
    print(
      paint(
        'bold',
        short(
          before.prompt
            .split('### Instruction:')
            .at(-1)!
            .replace(/(### Response|Answer):\s*$/, '')
            .replace(/\s*### Input:\s*/, ' | '),
        ),
      ),
    );
    print(`  expected  ${short(after.expected)}`);
    print(`  before    ${short(before.answer) || '(nothing)'}`);
    print(`  after     ${paint(after.isExact ? 'green' : 'red', short(after.answer) || '(nothing)')}`);
  }
  const { memory } = metrics;
  const model = shownPath(result.modelPath);
  print(`
On ${result.heldOut} held-out instructions
  before  ${figures(result.before)}
  after   ${figures(result.after)}
${metrics.steps} steps in ${duration(metrics.seconds * 1000)}, ${Math.round(metrics.tokensPerSecond)} tokens/s; memory a worker ${formatBytes(memory.measuredBytes)}, estimated ${formatBytes(memory.totalBytes)}; all in ${duration(tookMs)}

Model       ${model}  (Hugging Face folder)
Loss curve  ${shownPath(result.curvePath)}

Try next
  npx raylite generate ${model} --template ${result.template} ${JSON.stringify(question(result))}
  npm run quickstart -- --data alpaca.jsonl --max-steps 200     your own instructions
  npx raylite start --head                                      a cluster that stays
  npx raylite job submit --working-dir examples/finetune -- node finetune.js`);
}

/** As the user would type it: relative inside the current folder. */
function shownPath(path: string): string {
  const inside = relative(process.cwd(), path);
  return inside.startsWith('..') || isAbsolute(inside) ? path : inside;
}

const question = (result: QuickstartResult): string =>
  result.template === 'short' ? 'Which number is larger? 31, 67' : 'Name three primary colours.';

const asJson = (result: QuickstartResult, tookMs: number) => ({
  before: result.before,
  after: result.after,
  heldOut: result.heldOut,
  template: result.template,
  skippedRecords: result.skippedRecords,
  losses: result.training.losses,
  metrics: result.training.metrics,
  model: result.modelPath,
  curve: result.curvePath,
  seconds: tookMs / 1000,
  samples: result.samples,
});
