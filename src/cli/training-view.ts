// Shows a training run: one line that is redrawn on a terminal, a plain line every few seconds elsewhere.
import { formatBytes } from '../common/index.js';
import type { StepEvent, TrainingEvent } from '../train/index.js';
import { clean, duration, paint } from './output.js';

const PLAIN_INTERVAL_MS = 5000;
const BAR_WIDTH = 24;
const BAR_WIDTH_MIN = 8;
/** Least weight of a new step in the loss that is shown: about a mean of the last 20, since a single small batch says little. */
const LOSS_WEIGHT_MIN = 0.05;

export class TrainingView {
  readonly #out: NodeJS.WriteStream;
  readonly #isTerminal: boolean;
  #lastPlainMs = Number.NEGATIVE_INFINITY;
  #isLineOpen = false;
  #loss = 0;
  #lossCount = 0;

  constructor(out: NodeJS.WriteStream = process.stderr) {
    this.#out = out;
    this.#isTerminal = out.isTTY && process.env.TERM !== 'dumb';
  }

  show(event: TrainingEvent): void {
    if (event.kind === 'step') {
      if (event.step === 1) this.#lossCount = 0;
      if (Number.isFinite(event.loss)) this.#count(event.loss);
      this.#step(event);
    } else this.line(this.#text(event));
  }

  #count(loss: number): void {
    this.#lossCount += 1;
    this.#loss += Math.max(LOSS_WEIGHT_MIN, 1 / this.#lossCount) * (loss - this.#loss);
  }

  /** A line of its own, above the bar. */
  line(text: string): void {
    this.end();
    this.#out.write(`${text}\n`);
  }

  /** Leaves the bar as it is and goes on below it. */
  end(): void {
    if (this.#isLineOpen) this.#out.write('\n');
    this.#isLineOpen = false;
  }

  #text(event: Exclude<TrainingEvent, StepEvent>): string {
    switch (event.kind) {
      case 'data':
        return dataText(event);
      case 'notes':
        return event.notes.map((note) => `note: ${note}`).join('\n');
      case 'profile':
        return event.text;
      case 'waiting': {
        const group = event.workers === 1 ? 'one worker' : `${event.workers} workers`;
        const end = event.seconds === null ? '' : ` (gives up after ${duration(event.seconds * 1000)})`;
        return `no room for ${group} yet${end}: ${clean(event.reason)}`;
      }
      case 'started': {
        const group = groupText(event);
        const from = event.fromStep > 0 ? `, going on after step ${event.fromStep}` : '';
        return `${event.parameterCount} parameters, ${formatBytes(event.estimateBytes)} a worker by estimate, ${group}${from}`;
      }
      case 'late':
        return `${paint('yellow', 'warning', this.#out)}: ${clean(event.message)}`;
      case 'came':
        return `${event.ranks.length === 1 ? 'rank' : 'ranks'} ${event.ranks.join(', ')} came`;
      case 'grown':
        return `from here on ${groupText(event)}, after step ${event.step}`;
      case 'evaluated': {
        const perplexity = event.perplexity === null ? '' : ` (perplexity ${event.perplexity.toFixed(2)})`;
        const best = event.isBest ? ', the best so far' : '';
        return `after step ${event.step}: held-out loss ${event.loss.toFixed(4)}${perplexity}${best}`;
      }
      case 'moved':
        return `nodes are to leave: from here on ${groupText(event)}, after step ${event.step}`;
      case 'samples':
        return event.samples
          .map(({ prompt, text }) => `after step ${event.step}: ${clean(prompt)} → ${clean(text)}`)
          .join('\n');
      case 'checkpoint':
        return `checkpoint after step ${event.step}: ${event.path}`;
      case 'failed': {
        const message = event.error instanceof Error ? event.error.message : String(event.error);
        return `${paint('yellow', 'failure', this.#out)} ${event.failures} (at most ${event.maxFailures} allowed): ${clean(message)}`;
      }
    }
  }

  #step(event: StepEvent): void {
    if (this.#isTerminal) {
      this.#out.write(`\r\u001b[2K${barLine(event, this.#loss, (this.#out.columns || 80) - 1)}`);
      this.#isLineOpen = true;
      return;
    }
    const nowMs = performance.now();
    if (nowMs - this.#lastPlainMs < PLAIN_INTERVAL_MS && event.step < event.totalSteps) return;
    this.#lastPlainMs = nowMs;
    this.#out.write(`${figures(event, this.#loss).join('  ')}\n`);
  }
}

/** `2 workers over TCP` */
function groupText({
  workers,
  group,
}: Extract<TrainingEvent, { readonly kind: 'started' | 'grown' | 'moved' }>): string {
  if (group === 'alone') return 'one worker';
  const way = {
    shm: 'in shared memory',
    tcp: 'over TCP',
    hierarchical: 'in shared memory and over TCP',
    nccl: 'from GPU to GPU (NCCL)',
  }[group];
  return `${workers} workers ${way}`;
}

function dataText({ facts, skippedRecords }: Extract<TrainingEvent, { readonly kind: 'data' }>): string {
  const { sequences, tokens, rowsPerEpoch, truncated, skipped } = facts;
  const notes = [
    truncated > 0 ? `${truncated} cut to the sequence length` : '',
    skipped > 0 ? `${skipped} without a token to train on left out` : '',
    skippedRecords > 0 ? `${skippedRecords} malformed left out` : '',
  ].filter((note) => note !== '');
  const packed = `${sequences} sequences, ${tokens} tokens, packed into ${rowsPerEpoch} rows`;
  return notes.length > 0 ? `${packed} (${notes.join(', ')})` : packed;
}

const bar = (share: number, width: number): string => {
  const full = Math.round(share * width);
  return `[${'█'.repeat(full)}${'░'.repeat(width - full)}]`;
};

/** The most important first: a narrow terminal shows as many as fit. The pace is unknown after one step. */
const figures = (event: StepEvent, smoothedLoss: number): readonly string[] => [
  `step ${event.step}/${event.totalSteps}`,
  `loss ${smoothedLoss.toFixed(3)}`,
  `${event.tokensPerSecond > 0 ? Math.round(event.tokensPerSecond) : '–'} tokens/s`,
  `ETA ${event.tokensPerSecond > 0 ? duration(event.etaSeconds * 1000) : '–'}`,
  ...(event.lossScale === null ? [] : [`loss scale ${event.lossScale}`]),
  ...(event.skippedSteps === 0 ? [] : [`${event.skippedSteps} skipped`]),
  `memory ${formatBytes(event.memoryBytes)}, estimated ${formatBytes(event.estimateBytes)}`,
];

/** The bar and its figures in at most `columns` characters. The bar shrinks first, then the last figures go. */
function barLine(event: StepEvent, smoothedLoss: number, columns: number): string {
  const shown = [...figures(event, smoothedLoss)];
  const textOf = (): string => shown.join('  ');
  while (shown.length > 2 && textOf().length + BAR_WIDTH_MIN + 3 > columns) shown.pop();
  const width = Math.min(BAR_WIDTH, columns - textOf().length - 3);
  const text = width < BAR_WIDTH_MIN ? textOf() : `${bar(event.step / event.totalSteps, width)} ${textOf()}`;
  return text.slice(0, Math.max(0, columns));
}
