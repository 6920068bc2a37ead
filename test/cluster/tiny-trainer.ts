// A Trainer of a tiny GPT-2 for cluster tests, and how to look at what it does.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { type Cluster, init } from '#src/client/index.js';
import { generateInstructions, promptOf, trainBpe } from '#src/data/index.js';
import { Checkpoint } from '#src/models/index.js';
import {
  type DsConfigInput,
  type Recipe,
  type SftOptions,
  sft,
  Trainer,
  type TrainerOptions,
} from '#src/train/index.js';

const { train: records } = generateInstructions({ train: 300, heldOut: 0, seed: 1 });
const texts = records.map(({ record }) =>
  record.kind === 'alpaca' ? `${promptOf(record.instruction, record.input, 'short')} ${record.output}` : '',
);
export const tokenizer = trainBpe(texts, { vocabSize: 400, splitDigits: true });
export const STEPS = 8;

type Workers = NonNullable<NonNullable<TrainerOptions['scaling']>['workers']>;

export interface TinyOptions {
  run?: TrainerOptions['run'];
  zero?: 0 | 1 | 2 | 3;
  learningRate?: number;
  optimizer?: 'AdamW' | 'Muon';
  recipe?: Partial<SftOptions>;
  /** What becomes of the recipe. */
  change?: (recipe: Recipe) => Recipe;
  deepspeed?: DsConfigInput;
  scaling?: TrainerOptions['scaling'];
}

/** A cluster of four CPUs and a folder for the runs of a test file, from before its tests to behind them. */
export function tinyRuns(label: string) {
  let cluster: Cluster;
  let storage: string;
  before(async () => {
    storage = await mkdtemp(join(tmpdir(), `raylite-${label}-`));
    cluster = await init({ address: 'local', numCpus: 4 });
  });
  after(async () => {
    await cluster[Symbol.asyncDispose]();
    await rm(storage, { recursive: true, force: true });
  });
  return {
    /** Where run `name` is kept, and what else is written. */
    pathOf: (...names: readonly string[]) => join(storage, ...names),
    trainer: (name: string, workers: Workers, more?: TinyOptions) => tinyTrainer(storage, name, workers, more),
  };
}

export function tinyTrainer(storage: string, name: string, workers: Workers, more: TinyOptions = {}): Trainer {
  const recipe = sft({
    model: { kind: 'gpt2', layers: 2, hidden: 32, heads: 2 },
    data: { records },
    tokenizer,
    template: 'short',
    sequenceLength: 64,
    maxSteps: STEPS,
    learningRate: more.learningRate ?? 3e-3,
    ...more.recipe,
  });
  return new Trainer({
    recipe: more.change?.(recipe) ?? recipe,
    scaling: { workers, ...more.scaling },
    deepspeed: {
      train_batch_size: 4,
      train_micro_batch_size_per_gpu: 1,
      optimizer: { type: more.optimizer ?? 'AdamW', params: { weight_decay: 0.1 } },
      zero_optimization: { stage: more.zero ?? 1 },
      ...more.deepspeed,
    },
    run: { storage, name, ...more.run },
  });
}

export function close(a: readonly number[], b: readonly number[]): void {
  assert.equal(a.length, b.length);
  a.forEach((loss, step) => {
    assert.ok(Math.abs(loss - b[step]!) < 2e-5, `step ${step}: ${loss} and ${b[step]}`);
  });
}

/** The process ids of the trainer's workers, from the children of this machine's cluster. */
export function rankPids(): number[] {
  const tree = execFileSync('ps', ['-eo', 'pid,ppid,args'], { encoding: 'utf8' }).split('\n').slice(1);
  const rows = tree.map((line) => /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line)).filter((row) => row !== null);
  const below = new Set([process.pid]);
  for (const [, pid, ppid] of [...rows, ...rows, ...rows]) if (below.has(Number(ppid))) below.add(Number(pid));
  return rows
    .filter(([, pid, , args]) => below.has(Number(pid)) && /TrainRank/.test(args ?? ''))
    .map(([, pid]) => Number(pid));
}

/** The biases of keys move no score: Adam makes full steps of what rounding leaves of their gradient. */
export const KEY_BIASES = /c_attn\.bias$/;

/** The weights of two Hugging Face folders differ by at most `limit`, but for those named by `except`. */
export async function sameModel(
  left: string,
  right: string,
  limit: number,
  except: RegExp | null = null,
): Promise<void> {
  await using a = await Checkpoint.open(left);
  await using b = await Checkpoint.open(right);
  for (const name of a.parameters.keys()) {
    if (except?.test(name)) continue;
    const expected = await b.read(name);
    const worst = (await a.read(name)).reduce((most, x, i) => Math.max(most, Math.abs(x - expected[i]!)), 0);
    assert.ok(worst <= limit, `${name} differs by ${worst}`);
  }
}
