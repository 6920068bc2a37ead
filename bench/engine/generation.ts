// Scenes of generation: a prompt read, and tokens decoded through the cache, beside Transformers' eager model with its cache.
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Figure, OpenScene, Sample, Scene } from '../harness/figure.js';
import { startSides } from '../harness/line-process.js';
import { multiplyPeak, readBandwidth } from '../limits/index.js';
import { writeConfig } from '../training/compare.js';
import { WORKLOADS } from '../training/workloads.js';

const OURS = fileURLToPath(new URL('./generation-ours.js', import.meta.url));
const TORCH = 'bench/peers/torch_generation.py';
const FOLDER = 'build/bench/generation';
const PROMPT_TOKENS = 512;
/** Sequences decoded at once; each from a prompt of 16 tokens on. */
const SEQUENCES = [1, 8, 16];

const { model, config, multiplied } = WORKLOADS[0]!;

const prefillName = () => `${model} prefill, fp32, ${PROMPT_TOKENS} tokens, ${availableParallelism()} threads`;
const decodeName = (count: number) => `${model} decode, fp32, ${count} at once, ${availableParallelism()} threads`;

export function generationScenes(python: string | null): readonly Scene[] {
  return [{ names: [prefillName(), ...SEQUENCES.map(decodeName)], open: () => openGeneration(python) }];
}

async function openGeneration(python: string | null): Promise<OpenScene> {
  const threads = availableParallelism();
  writeConfig(FOLDER, config);
  const args = [String(threads), FOLDER];
  const sides = await startSides(
    { command: process.execPath, args: [OURS, ...args] },
    // The peer makes the weights that raylite loads; without it raylite makes its own.
    python === null ? null : { command: python, args: [TORCH, ...args] },
  );
  const { ours, peer } = sides;
  const figure = (name: string, command: string): Omit<Figure, 'goal' | 'limit'> => ({
    name,
    unit: 'tokens/s',
    isMoreBetter: true,
    warmUps: 1,
    rounds: 5,
    ours: () => ours.ask(command),
    peer: peer && (() => peer.ask(command)),
    verify: sameTokens,
  });
  const multiplyLimit = async () => ((await multiplyPeak('fp32', threads)) * 1e9) / (2 * multiplied);
  const prefill: Figure = {
    ...figure(prefillName(), `prefill ${PROMPT_TOKENS}`),
    goal: { ratio: 1.5 },
    limit: { name: 'fp32 multiply-add peak', measure: multiplyLimit },
  };
  const decode = SEQUENCES.map(
    (count): Figure => ({
      ...figure(decodeName(count), `decode ${count}`),
      goal: { share: 0.85 },
      limit: {
        name: 'weights read once a step, or their multiply-adds',
        measure: async () => {
          const reads = ((await readBandwidth(threads)) * 1e9) / (4 * multiplied);
          return Math.min(reads * count, await multiplyLimit());
        },
      },
    }),
  );
  return {
    figures: [prefill, ...decode],
    peerName: sides.peerName,
    [Symbol.asyncDispose]: () => sides[Symbol.asyncDispose](),
  };
}

/** The first tokens: later ones follow from them, and a near tie may fall either way. */
function sameTokens(ours: readonly Sample[], peer: readonly Sample[]): void {
  for (const [round, { first }] of ours.entries()) {
    const [own, other] = [JSON.stringify(first), JSON.stringify(peer[round]!.first)];
    if (own !== other) throw new Error(`our first tokens are ${own}, the peer's ${other}: not the same work`);
  }
}
