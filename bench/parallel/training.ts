// Scenes of training steps on several ranks: same weights, tokens and optimiser as PyTorch or DeepSpeed on the same cores; losses are
// compared step by step. Each strategy stands beside a peer's that keeps as much on each rank.
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Figure, OpenScene, Sample, Scene } from '../harness/figure.js';
import { startSides } from '../harness/line-process.js';
import { GOAL, type Precision, sameLosses, writeConfig } from '../training/compare.js';
import { SMALL_GPT2 } from '../training/workloads.js';

const RANKS_MAIN = fileURLToPath(new URL('./ranks.js', import.meta.url));
const RANK = fileURLToPath(new URL('./training-rank.js', import.meta.url));
const TORCH = 'bench/peers/torch_parallel.py';
const FOLDER = 'build/bench/parallel';

const ROWS = 2;
const TOKENS = 256;
const EXPOSED_GOAL = 10;

interface Job {
  readonly ranks: number;
  readonly precision: Precision;
  readonly stage: 0 | 2 | 3;
  /** What of the peers' stands beside it; DeepSpeed's at the same stage. */
  readonly peer: 'ddp' | 'fsdp2' | 'deepspeed';
}

const JOBS: readonly Job[] = [2, 4].flatMap((ranks) => [
  { ranks, precision: 'fp32', stage: 0, peer: 'ddp' },
  { ranks, precision: 'fp32', stage: 2, peer: 'deepspeed' },
  { ranks, precision: 'fp32', stage: 3, peer: 'fsdp2' },
  { ranks, precision: 'fp32', stage: 3, peer: 'deepspeed' },
  { ranks, precision: 'bf16', stage: 0, peer: 'ddp' },
  { ranks, precision: 'bf16', stage: 2, peer: 'deepspeed' },
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
  writeConfig(FOLDER, SMALL_GPT2);
  const common = [threads, ROWS, TOKENS].map(String);
  const sides = await startSides(
    {
      command: process.execPath,
      args: [RANKS_MAIN, String(ranks), RANK, ...common, precision, String(stage), FOLDER],
    },
    // The peer makes the weights that raylite loads; without it raylite makes its own.
    python === null
      ? null
      : { command: python, args: [TORCH, String(ranks), ...common, precision, job.peer, String(stage), FOLDER] },
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
    verify: sameLosses(precision),
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
