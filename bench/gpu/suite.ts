// Suite `gpu`: what one GPU does beside PyTorch (torch.compile, flash attention) on the same GPU in the same run. Each side is a program
// that prints all its figures (ours.ts, peer.py), which the archive of `npm run test:gpu` runs too.
import { spawnSync } from 'node:child_process';
import { CudaMissingError, findCuda, native } from '#src/native/index.js';
import type { Figure, OpenScene, Sample, Scene } from '../harness/figure.js';

interface Kind {
  readonly figure: string;
  /** Of what the programs print of it. */
  readonly field: string;
  readonly unit: string;
  readonly goal: Figure['goal'];
  readonly isOursAlone?: boolean;
}

const product = (shape: string): Kind => ({
  figure: `linear ${shape} bf16`,
  field: 'teraflops',
  unit: 'TFLOP/s',
  goal: { ratio: 1 },
});
const attention = (shape: string, field: string, goal: Figure['goal']): Kind => ({
  figure: `attention ${shape} bf16`,
  field,
  unit: 'TFLOP/s',
  goal,
});
/** What the choice between the two is made of: our own kernels alone, and cuDNN alone. */
const attentionBy = (shape: string, teraflops: number): readonly Kind[] =>
  ['ownForwardTeraflops', 'ownBackwardTeraflops', 'cudnnForwardTeraflops', 'cudnnBackwardTeraflops'].map((field) => ({
    ...attention(shape, field, { value: teraflops }),
    isOursAlone: true,
  }));
/** 85 % of what an H200 reads and writes. */
const BANDWIDTH_GOAL = { value: 0.85 * 4.3 };

const KINDS: readonly Kind[] = [
  { figure: 'GPT-2 124M', field: 'tokensPerSecond', unit: 'tokens/s', goal: { ratio: 1.15 } },
  { figure: 'GPT-2 1.5B', field: 'tokensPerSecond', unit: 'tokens/s', goal: { ratio: 1.15 } },
  { figure: 'GPT-2 1.5B', field: 'mfu', unit: 'of 989 TFLOP/s', goal: { value: 0.6 } },
  product('8192x8192x8192'),
  product('8192x1600x6400'),
  product('8192x768x3072'),
  attention('4x2048 of 16x128', 'forwardTeraflops', { value: 600 }),
  attention('4x2048 of 16x128', 'backwardTeraflops', { ratio: 1 }),
  ...attentionBy('4x2048 of 16x128', 600),
  attention('8x1024 of 12x64', 'forwardTeraflops', { ratio: 1 }),
  attention('8x1024 of 12x64', 'backwardTeraflops', { ratio: 1 }),
  ...attentionBy('8x1024 of 12x64', 400),
  { figure: 'adamw of 2^28', field: 'terabytesPerSecond', unit: 'TB/s', goal: BANDWIDTH_GOAL, isOursAlone: true },
  { figure: 'rms_norm 16384x4096 bf16', field: 'terabytesPerSecond', unit: 'TB/s', goal: BANDWIDTH_GOAL },
  { figure: 'rms_norm 16384x1600 bf16', field: 'terabytesPerSecond', unit: 'TB/s', goal: BANDWIDTH_GOAL },
];

const nameOf = ({ figure, field }: Kind): string => `${figure}, ${field}`;

/** @param python one whose PyTorch sees the GPU; null: ours alone */
export function gpuSuite(python: string | null): readonly Scene[] {
  return [{ names: KINDS.map(nameOf), open: async () => open(python) }];
}

function open(python: string | null): OpenScene {
  const { devices, reason } = findCuda(native());
  if (devices.length === 0) throw new CudaMissingError({ detail: `the suite "gpu" measures a GPU: ${reason}` });
  const ours = figuresOf(process.execPath, 'build/tests/bench/gpu/ours.js');
  const peer = python === null ? null : figuresOf(python, 'bench/gpu/peer.py');
  const figures = KINDS.map((kind): Figure => {
    const sample = (from: Figures) => async (): Promise<Sample> => ({ value: measuredValue(from, kind) });
    return {
      name: nameOf(kind),
      unit: kind.unit,
      isMoreBetter: true,
      goal: kind.goal,
      ours: sample(ours),
      peer: peer && !kind.isOursAlone ? sample(peer) : null,
      warmUps: 0, // the programs warm up, repeat and take medians themselves
      rounds: 1,
      limit: null,
    };
  });
  const peerName = `${String(peer?.values().next().value?.side ?? 'none')} on ${devices[0]!.name}`;
  return { figures, peerName, [Symbol.asyncDispose]: async () => {} };
}

type Figures = ReadonlyMap<string, Readonly<Record<string, unknown>>>;

/** All that a program prints: a line of JSON for each figure. */
function figuresOf(command: string, file: string): Figures {
  const { stdout, status, error } = spawnSync(command, [file], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`"${command} ${file}" ended with ${status}`);
  const lines = stdout.split('\n').filter((line) => line.startsWith('{'));
  return new Map(lines.map((line) => JSON.parse(line)).map((row) => [row.figure, row]));
}

function measuredValue(figures: Figures, { figure, field }: Kind): number {
  const value = figures.get(figure)?.[field];
  if (typeof value !== 'number') throw new Error(`nobody measured ${figure}, ${field}`);
  return value;
}
