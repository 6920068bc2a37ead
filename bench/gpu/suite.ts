// Suite `gpu`: what one GPU does beside PyTorch (torch.compile, flash attention) on the same GPU in the same run. Each side is a program
// that prints all its figures (ours.ts, peer.py), which the archive of `npm run test:gpu` runs too.
import { spawnSync } from 'node:child_process';
import { CudaMissingError, findCuda, native } from '#src/native/index.js';
import type { Figure, OpenScene, Sample, Scene } from '../harness/figure.js';
import { nameOf, readShapes, type Shapes } from './shapes.js';

interface Kind {
  readonly figure: string;
  /** Of what the programs print of it. */
  readonly field: string;
  readonly unit: string;
  readonly goal: Figure['goal'];
  readonly isOursAlone?: boolean;
  readonly isLessBetter?: boolean;
}

const SHAPES = 'bench/gpu/shapes.json';

/** What is measured of `shapes`, and what is aimed at. */
function kindsOf({ products, norms, attention, training, decoding }: Shapes): readonly Kind[] {
  const ofCopy = { field: 'ofCopy', unit: 'of what a copy moves', goal: { value: 0.85 } } as const;
  const flops = { unit: 'TFLOP/s' } as const;
  return [
    ...training.flatMap(({ name: figure, isOffloaded = false }): readonly Kind[] => [
      { figure, field: 'tokensPerSecond', unit: 'tokens/s', goal: { ratio: 1.15 }, isOursAlone: isOffloaded },
      {
        figure,
        field: 'mfu',
        unit: 'of 989 TFLOP/s',
        goal: { value: isOffloaded ? 0.4 : 0.6 },
        isOursAlone: isOffloaded,
      },
      { figure, field: 'ofCeiling', unit: 'of the fastest product', goal: { value: 0.75 }, isOursAlone: isOffloaded },
      { figure, field: 'gibibytes', unit: 'GiB', goal: { ratio: 1 }, isOursAlone: isOffloaded, isLessBetter: true },
      ...(isOffloaded
        ? ([
            { figure, field: 'overlapped', unit: 'of the transfers', goal: { value: 0.9 }, isOursAlone: true },
          ] as const)
        : []),
    ]),
    ...products.map(
      (shape): Kind => ({ figure: nameOf.product(shape), field: 'teraflops', ...flops, goal: { ratio: 1 } }),
    ),
    ...attention.flatMap((shape): readonly Kind[] => {
      const figure = nameOf.attention(shape);
      const isWide = shape[3] === 128;
      return [
        { figure, field: 'forwardTeraflops', ...flops, goal: isWide ? { value: 600 } : { ratio: 1 } },
        { figure, field: 'backwardTeraflops', ...flops, goal: { ratio: 1 } },
        ...['ownForward', 'ownBackward', 'cudnnForward', 'cudnnBackward'].map(
          (way): Kind => ({
            figure,
            field: `${way}Teraflops`,
            ...flops,
            goal: { value: isWide ? 600 : 400 },
            isOursAlone: true,
          }),
        ),
      ];
    }),
    { figure: nameOf.copy, field: 'terabytesPerSecond', unit: 'TB/s', goal: { ratio: 1 } },
    { figure: nameOf.adamw, ...ofCopy },
    ...norms.map((shape): Kind => ({ figure: nameOf.norm(shape), ...ofCopy })),
    ...decoding.sequences.flatMap((count): readonly Kind[] => {
      const figure = nameOf.decoding(decoding, count);
      return [
        { figure, field: 'tokensPerSecond', unit: 'tokens/s', goal: { ratio: 1.15 } },
        { figure, ...ofCopy, goal: { value: 0.7 } },
      ];
    }),
  ];
}

const figureName = ({ figure, field }: Kind): string => `${figure}, ${field}`;

/** @param python one whose PyTorch sees the GPU; null: ours alone */
export function gpuSuite(python: string | null): readonly Scene[] {
  const kinds = kindsOf(readShapes(SHAPES));
  return [{ names: kinds.map(figureName), open: async () => open(python, kinds) }];
}

function open(python: string | null, kinds: readonly Kind[]): OpenScene {
  const { devices, reason } = findCuda(native());
  if (devices.length === 0) throw new CudaMissingError({ detail: `the suite "gpu" measures a GPU: ${reason}` });
  const ours = figuresOf(process.execPath, 'build/tests/bench/gpu/ours.js');
  const peer = python === null ? null : figuresOf(python, 'bench/gpu/peer.py');
  const figures = kinds.map((kind): Figure => {
    const sample = (from: Figures) => async (): Promise<Sample> => ({ value: measuredValue(from, kind) });
    return {
      name: figureName(kind),
      unit: kind.unit,
      isMoreBetter: !kind.isLessBetter,
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
  const { stdout, status, error } = spawnSync(command, [file, SHAPES], {
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
