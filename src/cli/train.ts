// `raylite train FILE`: runs a trainer described by a YAML or JSON file, on the cluster of $RAYLITE_ADDRESS or one of its own.
import type { Command } from 'commander';
import { init } from '../client/index.js';
import { type PipelineMetrics, Trainer } from '../train/index.js';
import { interruptible } from './interrupt.js';
import { print, printJson } from './output.js';
import { readTrainingFile } from './training-file.js';
import { TrainingView } from './training-view.js';

interface Options {
  readonly address?: string;
  readonly profile?: true;
  readonly json?: true;
}

export function register(program: Command): void {
  program
    .command('train')
    .summary('fine-tune a model as a file says')
    .description(
      'Runs the trainer that a YAML or JSON file describes: {"recipe": {"kind": "sft", "model": …, "data": …}, "scaling": …, "deepspeed": …, "run": …}.',
    )
    .argument('<file>', 'YAML or JSON file')
    .option('--address <host:port>', 'cluster to run on (default: $RAYLITE_ADDRESS, else one of its own)')
    .option('--profile', 'also take the time of every kind of instruction, beside the limits of the machine')
    .option('--json', 'print losses, metrics and profile as JSON')
    .addHelpText('after', '\nExample:\n  $ raylite train examples/sft/sft.json')
    .action((file: string, options: Options) => interruptible((signal) => train(file, options, signal)));
}

async function train(file: string, options: Options, signal: AbortSignal): Promise<void> {
  const described = await readTrainingFile(file);
  const trainer = new Trainer(options.profile ? { ...described, run: { ...described.run, profile: true } } : described);
  await using _cluster = await init(options.address === undefined ? {} : { address: options.address });
  const view = new TrainingView();
  let profile: string | null = null;
  const result = await trainer.fit({
    signal,
    onProgress: (event) => {
      if (event.kind === 'profile') profile = event.text;
      else view.show(event);
    },
  });
  view.end();
  if (options.json) {
    printJson(result);
    return;
  }
  if (profile !== null) print(`${profile}\n`);
  if (result.metrics.pipeline) print(pipelineText(result.metrics.pipeline));
  for (const [name, value] of Object.entries(result.evaluation ?? {})) print(`${name}: ${formatScore(value)}`);
  if (result.best) print(`Best held-out loss ${result.best.loss.toFixed(4)}, after step ${result.best.step}`);
  print(`Loss ${result.losses.at(-1)?.toFixed(4)} after ${result.metrics.steps} steps. Model: ${result.model}`);
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

function pipelineText({ stages, chunks, micros, idleShare, scheduledIdleShare }: PipelineMetrics): string {
  const parts = chunks === 1 ? '' : ` of ${chunks} parts`;
  return `Pipeline of ${stages} stages${parts}, ${micros} micro-batches a step: stages waited ${percent(idleShare)} of it (${percent(scheduledIdleShare)} by the schedule)`;
}

/** Counts as they are, shares and losses to four digits. */
function formatScore(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(4);
}
