// Scenes of the collectives: all-reduce and reduce-scatter of floats between processes of this machine, beside gloo.
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Figure, OpenScene, Sample, Scene } from '../harness/figure.js';
import { type LineProcess, startSides } from '../harness/line-process.js';
import { copyBandwidth } from '../limits/index.js';

const RANKS_MAIN = fileURLToPath(new URL('./ranks.js', import.meta.url));
const RANK = fileURLToPath(new URL('./collective-rank.js', import.meta.url));
const GLOO = 'bench/peers/gloo_collectives.py';
const MB = 1_000_000;
/** Whole floats for any number of ranks. */
const BANDWIDTH_MB = [1, 4, 16, 64, 256];
const LATENCY_BYTES = [64, 4096];
const OPS = ['all_reduce', 'reduce_scatter'] as const;
const BANDWIDTH_GOAL = 4;
const LATENCY_GOAL = 20;

export function collectiveScenes(python: string | null): readonly Scene[] {
  return [2, 4].map((ranks) => ({
    names: OPS.flatMap((op) => [
      ...BANDWIDTH_MB.map((size) => bandwidthName(op, size, ranks)),
      ...LATENCY_BYTES.map((bytes) => latencyName(op, bytes, ranks)),
    ]),
    open: () => openScene(ranks, python),
  }));
}

const spoken = (op: string) => op.replace('_', '-');
const bandwidthName = (op: string, size: number, ranks: number) => `${spoken(op)} of ${size} MB, ${ranks} ranks`;
const latencyName = (op: string, bytes: number, ranks: number) => `${spoken(op)} of ${bytes} bytes, ${ranks} ranks`;

async function openScene(ranks: number, python: string | null): Promise<OpenScene> {
  const sides = await startSides(
    { command: process.execPath, args: [RANKS_MAIN, String(ranks), RANK] },
    python === null ? null : { command: python, args: [GLOO, String(ranks)] },
  );
  const { ours, peer } = sides;
  // What all ranks together copy, each on a core of its own as far as there are cores: a collective moves its bytes at least once.
  const copies = async () => (await copyBandwidth()) * Math.min(1, availableParallelism() / ranks);
  const figures = OPS.flatMap((op): readonly Figure[] => [
    ...BANDWIDTH_MB.map((size): Figure => {
      const command = `${op} ${size * MB} ${Math.max(2, Math.round(256 / size))}`;
      const speed = async (side: LineProcess): Promise<Sample> => {
        const answer = await side.ask(command);
        return { ...answer, value: (size * MB) / 1e9 / answer.value };
      };
      return {
        name: bandwidthName(op, size, ranks),
        unit: 'GB/s',
        isMoreBetter: true,
        goal: { ratio: BANDWIDTH_GOAL },
        warmUps: 1,
        rounds: 5,
        ours: () => speed(ours),
        peer: peer && (() => speed(peer)),
        limit: { name: 'copy of memory', measure: copies },
        verify: sameSums(ranks),
      };
    }),
    ...LATENCY_BYTES.map((bytes): Figure => {
      const wait = async (side: LineProcess, repeats: number): Promise<Sample> => {
        const answer = await side.ask(`${op} ${bytes} ${repeats}`);
        return { ...answer, value: answer.value * 1e6 };
      };
      return {
        name: latencyName(op, bytes, ranks),
        unit: 'µs',
        isMoreBetter: false,
        goal: { ratio: LATENCY_GOAL },
        warmUps: 1,
        rounds: 5,
        ours: () => wait(ours, 2000),
        peer: peer && (() => wait(peer, 500)),
        limit: null,
        verify: sameSums(ranks),
      };
    }),
  ]);
  return { figures, peerName: sides.peerName, [Symbol.asyncDispose]: () => sides[Symbol.asyncDispose]() };
}

/** Every rank has the sum 1 + 2 + … + n; `first` adds those of all ranks up. */
function sameSums(ranks: number): NonNullable<Figure['verify']> {
  const expected = (ranks * ranks * (ranks + 1)) / 2;
  return (ours, peer) => {
    for (const { first } of [...ours, ...peer])
      if (first !== expected) throw new Error(`the sums of ${ranks} ranks add up to ${first}, not ${expected}`);
  };
}
