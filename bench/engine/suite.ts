// Suite `engine`: the training step of a GPT-2-124M beside PyTorch + Transformers in eager mode, fp32, same weights, same
// tokens, same optimiser, same threads; the losses of both are compared step by step.
import { rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Figure, Sample, Suite } from '../harness/figure.js';
import { type LineProcess, startSides } from '../harness/line-process.js';
import { fmaPeak } from '../limits/index.js';

const OURS = fileURLToPath(new URL('./ours.js', import.meta.url));
const TORCH = 'bench/peers/torch_gpt2.py';
const WEIGHTS = 'build/bench/gpt2-124m';

const ROWS = 4;
const TOKENS = 256;
/** Multiply-adds of forward and backward count six per parameter and token. */
const STEP_GFLOP = (6 * 124.4e6 * ROWS * TOKENS) / 1e9;
/** Both start from the same weights; rounding drifts apart from step to step. */
const LOSS_TOLERANCE = 2e-2;

/** Starts both trainers, each in a process of its own; an idle one only holds memory. */
export async function engineSuite(python: string | null): Promise<Suite> {
  const threads = availableParallelism();
  const args = [String(threads), String(ROWS), String(TOKENS), WEIGHTS];
  rmSync(WEIGHTS, { recursive: true, force: true });
  const sides = await startSides(
    { command: process.execPath, args: [OURS, ...args] },
    // The peer makes the weights that raylite loads; without it raylite makes its own.
    python === null ? null : { command: python, args: [TORCH, ...args] },
  );
  const { ours, peer } = sides;
  const step: Figure = {
    name: `GPT-2 124M step, fp32, ${ROWS} x ${TOKENS} tokens, ${threads} threads`,
    unit: 'tokens/s',
    isMoreBetter: true,
    goal: 2.2,
    warmUps: 2,
    rounds: 5,
    ours: () => ours.ask('step'),
    peer: peer && (() => peer.ask('step')),
    limit: {
      name: 'FMA peak',
      measure: async () => ((await fmaPeak(threads)) / STEP_GFLOP) * ROWS * TOKENS,
    },
    verify: sameLosses,
  };
  const memory: Figure = {
    name: 'GPT-2 124M step, peak resident memory',
    unit: 'GB',
    isMoreBetter: false,
    goal: 1.43,
    warmUps: 0,
    rounds: 1,
    ours: () => peakAfterStep(ours),
    peer: peer && (() => peakAfterStep(peer)),
    limit: null,
  };
  return {
    figures: [step, memory],
    peerName: sides.peerName,
    [Symbol.asyncDispose]: () => sides[Symbol.asyncDispose](),
  };
}

async function peakAfterStep(side: LineProcess): Promise<Sample> {
  await side.ask('step');
  return { value: side.peakBytes() / 1e9 };
}

function sameLosses(ours: readonly Sample[], peer: readonly Sample[]): void {
  for (const [step, sample] of ours.entries()) {
    const [own, other] = [Number(sample.loss), Number(peer[step]!.loss)];
    if (!(Math.abs(own - other) <= LOSS_TOLERANCE))
      throw new Error(`step ${step + 1}: our loss is ${own}, the peer's ${other}: not the same work`);
  }
}
