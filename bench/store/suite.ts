// Suite `store`: large objects in shared memory and on disk, beside Ray's.
import { fileURLToPath } from 'node:url';
import type { Figure, OpenScene, Scene } from '../harness/figure.js';
import { startSides } from '../harness/line-process.js';
import { copyBandwidth, diskBandwidth } from '../limits/index.js';
import { BROADCAST, openBroadcast } from './broadcast.js';

const OURS = fileURLToPath(new URL('./ours.js', import.meta.url));
const RAY = 'bench/peers/ray_store.py';

type Line = Pick<Figure, 'name' | 'unit' | 'isMoreBetter' | 'goal' | 'limit'> & { readonly command: string };

const IN_MEMORY: readonly Line[] = [
  {
    command: 'large-put',
    name: 'put of 800 MiB',
    unit: 'GB/s',
    isMoreBetter: true,
    goal: { share: 0.8 },
    limit: { name: 'memcpy into touched memory', measure: copyBandwidth },
  },
  {
    command: 'large-get',
    name: 'get of 800 MiB',
    unit: 'µs',
    isMoreBetter: false,
    goal: { ratio: 5 },
    limit: null,
  },
];
const ON_DISK: readonly Line[] = [
  {
    command: 'spill-restore',
    name: 'spill and restore of 2 GiB',
    unit: 'GB/s',
    isMoreBetter: true,
    goal: { ratio: 1.5 },
    limit: { name: 'files overwritten and read, checksums left out', measure: diskBandwidth },
  },
];

export function storeSuite(python: string | null): readonly Scene[] {
  return [
    { names: IN_MEMORY.map(({ name }) => name), open: () => openScene(python, IN_MEMORY, 3072) },
    { names: ON_DISK.map(({ name }) => name), open: () => openScene(python, ON_DISK, 1024) },
    { names: [BROADCAST], open: openBroadcast },
  ];
}

/** Starts both stores, of `storeMiB` each; both stay up, so that either is measured beside an idle other. */
async function openScene(python: string | null, lines: readonly Line[], storeMiB: number): Promise<OpenScene> {
  const sides = await startSides(
    { command: process.execPath, args: ['--expose-gc', OURS, String(storeMiB)] },
    python === null ? null : { command: python, args: [RAY, String(storeMiB)] },
  );
  const { ours, peer } = sides;
  return {
    figures: lines.map(({ command, ...line }) => ({
      ...line,
      warmUps: 2,
      rounds: 5,
      ours: () => ours.ask(command),
      peer: peer && (() => peer.ask(command)),
    })),
    peerName: sides.peerName,
    [Symbol.asyncDispose]: () => sides[Symbol.asyncDispose](),
  };
}
