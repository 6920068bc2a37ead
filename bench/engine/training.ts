// Scenes of the training step: same weights, tokens, optimiser and threads as PyTorch; losses are compared step by step.
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Figure, OpenScene, Sample, Scene } from '../harness/figure.js';
import { type LineProcess, startSides } from '../harness/line-process.js';
import { multiplyPeak } from '../limits/index.js';
import { GOAL, sameLosses, writeConfig } from '../training/compare.js';
import { stepFlops, WORKLOADS, type Workload } from '../training/workloads.js';

const OURS = fileURLToPath(new URL('./ours.js', import.meta.url));
const TORCH = 'bench/peers/torch_training.py';
const FOLDER = 'build/bench/training';

const MEMORY_GOAL = 1.43;

export function trainingScenes(python: string | null): readonly Scene[] {
  return WORKLOADS.map((workload) => ({ names: namesOf(workload), open: () => openTraining(workload, python) }));
}

function namesOf({ model, precision, rows, tokens }: Workload): readonly [step: string, memory: string] {
  const work = `${model} step, ${precision}, ${rows} x ${tokens} tokens, ${availableParallelism()} threads`;
  return [work, `${work}: peak resident memory`];
}

async function openTraining(workload: Workload, python: string | null): Promise<OpenScene> {
  const threads = availableParallelism();
  const { rows, tokens, precision, config } = workload;
  writeConfig(FOLDER, config);
  const args = [String(threads), String(rows), String(tokens), precision, FOLDER];
  const sides = await startSides(
    { command: process.execPath, args: [OURS, ...args] },
    // The peer makes the weights that raylite loads; without it raylite makes its own.
    python === null ? null : { command: python, args: [TORCH, ...args] },
  );
  const { ours, peer } = sides;
  const [stepName, memoryName] = namesOf(workload);
  const step: Figure = {
    name: stepName,
    unit: 'tokens/s',
    isMoreBetter: true,
    goal: { ratio: GOAL[precision] },
    warmUps: 2,
    rounds: 5,
    ours: () => ours.ask('step'),
    peer: peer && (() => peer.ask('step')),
    limit: {
      name: `${precision} multiply-add peak`,
      measure: async () => ((await multiplyPeak(precision, threads)) / stepFlops(workload)) * 1e9 * rows * tokens,
    },
    verify: sameLosses(precision),
  };
  const memory: Figure = {
    name: memoryName,
    unit: 'GB',
    isMoreBetter: false,
    goal: { ratio: MEMORY_GOAL },
    warmUps: 0,
    rounds: 1,
    ours: () => peakOfStep(ours),
    peer: peer && (() => peakOfStep(peer)),
    limit: null,
  };
  return {
    figures: [step, memory],
    peerName: sides.peerName,
    [Symbol.asyncDispose]: () => sides[Symbol.asyncDispose](),
  };
}

async function peakOfStep(side: LineProcess): Promise<Sample> {
  return { value: (await side.peakBytes('step')) / 1e9 };
}
