// Figures of the head alone, which have no peer: Ray's scheduler cannot be asked without its cluster.
import { fileURLToPath } from 'node:url';
import type { Figure, Scene } from '../harness/figure.js';
import { LineProcess } from '../harness/line-process.js';

const OURS = fileURLToPath(new URL('./head-ours.js', import.meta.url));

const HEAD: readonly (Pick<Figure, 'name' | 'unit' | 'isMoreBetter' | 'goal' | 'rounds'> & {
  readonly command: string;
})[] = [
  {
    command: 'decisions',
    name: 'scheduler, 2,000 nodes',
    unit: 'placements/s',
    isMoreBetter: true,
    goal: { value: 50_000 },
    rounds: 5,
  },
  {
    command: 'simulation',
    name: 'simulation of 2,000 nodes and 40,000 actors, checked',
    unit: 'events/s',
    isMoreBetter: true,
    goal: { value: 1_000 },
    rounds: 1,
  },
  {
    command: 'memory',
    name: 'head with 10,000 actors after 1,000,000 tasks',
    unit: 'MiB',
    isMoreBetter: false,
    goal: { value: 64 },
    rounds: 1,
  },
];

export const headScene: Scene = {
  names: HEAD.map(({ name }) => name),
  async open() {
    const { process: ours } = await LineProcess.start(process.execPath, ['--expose-gc', OURS]);
    return {
      peerName: '',
      figures: HEAD.map(({ command, ...figure }) => ({
        ...figure,
        warmUps: figure.rounds > 1 ? 1 : 0,
        ours: () => ours.ask(command),
        peer: null,
        limit: null,
      })),
      [Symbol.asyncDispose]: () => ours[Symbol.asyncDispose](),
    };
  },
};
