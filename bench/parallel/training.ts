// Scenes of training steps on several ranks: same weights, tokens and optimiser as PyTorch on the same cores; losses are compared
// step by step. Each strategy stands beside the peer's that keeps as much on each rank.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Figure, OpenScene, Sample, Scene } from '../harness/figure.js';
import { startSides } from '../harness/line-process.js';

const RANKS_MAIN = fileURLToPath(new URL('./ranks.js', import.meta.url));
const RANK = fileURLToPath(new URL('./training-rank.js', import.meta.url));
const TORCH = 'bench/peers/torch_parallel.py';
const FOLDER = 'build/bench/parallel';

const ROWS = 2;
const TOKENS = 256;
const LOSS_TOLERANCE = { fp32: 2e-2, bf16: 1e-1 };
const GOAL = { fp32: 2.2, bf16: 1.5 };
const EXPOSED_GOAL = 10;

/** GPT-2 with half the layers and vocabulary: four ranks of it and of the peer fit a small machine. */
const CONFIG = {
  model_type: 'gpt2',
  n_embd: 768,
  n_head: 12,
  n_layer: 6,
  n_positions: 1024,
  vocab_size: 25088,
  layer_norm_epsilon: 1e-5,
  initializer_range: 0.02,
  activation_function: 'gelu_new',
  resid_pdrop: 0,
  embd_pdrop: 0,
  attn_pdrop: 0,
};

interface Job {
  readonly ranks: number;
  readonly precision: 'fp32' | 'bf16';
  readonly stage: 0 | 2 | 3;
  /** What of the peer's stands beside it. */
  readonly peer: 'ddp' | 'fsdp2';
}

const JOBS: readonly Job[] = [2, 4].flatMap((ranks) => [
  { ranks, precision: 'fp32', stage: 0, peer: 'ddp' },
  { ranks, precision: 'fp32', stage: 2, peer: 'ddp' },
  { ranks, precision: 'fp32', stage: 3, peer: 'fsdp2' },
  { ranks, precision: 'bf16', stage: 2, peer: 'ddp' },
  { ranks, precision: 'bf16', stage: 3, peer: 'fsdp2' },
]);

export function trainingScenes(python: string | null): readonly Scene[] {
  return JOBS.map((job) => ({ names: namesOf(job), open: () => openTraining(job, python) }));
}

function namesOf({ ranks, precision, stage, peer }: Job): readonly [step: string, exposed: string] {
  const work = `GPT-2 62M step, ${precision}, ${ranks} ranks, ZeRO ${stage} beside ${peer}`;
  return [work, `${work}: exposed communication`];
}

async function openTraining(job: Job, python: string | null): Promise<OpenScene> {
  const { ranks, precision, stage } = job;
  const threads = Math.max(1, Math.floor(availableParallelism() / ranks));
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER, { recursive: true });
  writeFileSync(join(FOLDER, 'config.json'), JSON.stringify(CONFIG));
  const common = [threads, ROWS, TOKENS].map(String);
  const sides = await startSides(
    {
      command: process.execPath,
      args: [RANKS_MAIN, String(ranks), RANK, ...common, precision, String(stage), FOLDER],
    },
    // The peer makes the weights that raylite loads; without it raylite makes its own.
    python === null ? null : { command: python, args: [TORCH, String(ranks), ...common, precision, job.peer, FOLDER] },
  );
  const { ours, peer } = sides;
  const speed = async (side: typeof ours): Promise<Sample> => {
    const answer = await side.ask('step');
    return { ...answer, value: (ranks * ROWS * TOKENS) / answer.value };
  };
  const [stepName, exposedName] = namesOf(job);
  const step: Figure = {
    name: stepName,
    unit: 'tokens/s',
    isMoreBetter: true,
    goal: { ratio: GOAL[precision] },
    warmUps: 2,
    rounds: 5,
    ours: () => speed(ours),
    peer: peer && (() => speed(peer)),
    limit: null,
    verify: (own, other) => sameLosses(own, other, LOSS_TOLERANCE[precision]),
  };
  const exposed: Figure = {
    name: exposedName,
    unit: '% of the step',
    isMoreBetter: false,
    goal: { value: EXPOSED_GOAL },
    warmUps: 0,
    rounds: 3,
    ours: async () => ({ value: 100 * Number((await ours.ask('exposed')).exposed) }),
    peer: null,
    limit: null,
  };
  return {
    figures: [step, exposed],
    peerName: sides.peerName,
    [Symbol.asyncDispose]: () => sides[Symbol.asyncDispose](),
  };
}

function sameLosses(ours: readonly Sample[], peer: readonly Sample[], tolerance: number): void {
  for (const [step, sample] of ours.entries()) {
    const [own, other] = [Number(sample.loss), Number(peer[step]!.loss)];
    if (!(Math.abs(own - other) <= tolerance))
      throw new Error(`step ${step + 1}: our loss is ${own}, the peer's ${other}: not the same work`);
  }
}
