// Suite `core`: the lines of `ray microbenchmark` by their names, beside Ray's, then start-up, memory and the head alone.
import { fileURLToPath } from 'node:url';
import type { Figure, OpenScene, Scene } from '../harness/figure.js';
import { LineProcess, startSides } from '../harness/line-process.js';
import { awaits, copyBandwidth, nodeStart, pingPong } from '../limits/index.js';
import { headScene } from './head.js';

const OURS = fileURLToPath(new URL('./ours.js', import.meta.url));
const RAY = 'bench/peers/ray_core.py';
const BATCH = 1000;

type Limit = Figure['limit'];
const socket: Limit = { name: 'unix socket ping-pong', measure: () => pingPong(1) };
const pipelined: Limit = { name: `unix socket, ${BATCH} in flight`, measure: () => pingPong(BATCH) };
const promises: Limit = { name: 'awaited promises', measure: awaits };
const copies: Limit = { name: 'memcpy into touched memory', measure: copyBandwidth };

interface Line {
  readonly name: string;
  readonly unit: string;
  /** So many times Ray; a share of the limit where it is below 1. */
  readonly goal: number;
  readonly limit: Limit;
  readonly isMoreBetter: boolean;
  readonly rounds: number;
}

const perSecond = (name: string, unit: string, goal: number, limit: Limit = null): Line => ({
  name,
  unit: `${unit}/s`,
  goal,
  limit,
  isMoreBetter: true,
  rounds: 5,
});
const lessIsBetter = (name: string, unit: string, goal: number, rounds: number): Line => ({
  name,
  unit,
  goal,
  limit: null,
  isMoreBetter: false,
  rounds,
});

// Memory first: what later lines start is not idle.
const LINES: readonly Line[] = [
  lessIsBetter('memory of an idle cluster', 'MiB', 5, 1),
  lessIsBetter('memory of the head', 'MiB', 1, 1),
  perSecond('single client get calls (Plasma Store)', 'gets', 10, promises),
  perSecond('single client put calls (Plasma Store)', 'puts', 10, promises),
  perSecond('multi client put calls (Plasma Store)', 'puts', 10),
  perSecond('single client put gigabytes', 'GB', 0.8, copies),
  perSecond('single client tasks and get batch', 'batches', 20),
  perSecond('multi client put gigabytes', 'GB', 1, copies),
  perSecond('single client get object containing 10k refs', 'gets', 10),
  perSecond('single client wait 1k refs', 'loops', 50),
  perSecond('single client tasks sync', 'tasks', 5, socket),
  perSecond('single client tasks async', 'tasks', 20, pipelined),
  perSecond('multi client tasks async', 'tasks', 20, pipelined),
  perSecond('1:1 actor calls sync', 'calls', 5, socket),
  perSecond('1:1 actor calls async', 'calls', 20, pipelined),
  perSecond('1:1 actor calls concurrent', 'calls', 20, pipelined),
  perSecond('1:n actor calls async', 'calls', 20, pipelined),
  perSecond('n:n actor calls async', 'calls', 20, pipelined),
  perSecond('n:n actor calls with arg async', 'calls', 20, pipelined),
  perSecond('1:1 async-actor calls sync', 'calls', 5, socket),
  perSecond('1:1 async-actor calls async', 'calls', 20, pipelined),
  perSecond('1:1 async-actor calls with args async', 'calls', 20, pipelined),
  perSecond('1:n async-actor calls async', 'calls', 20, pipelined),
  perSecond('n:n async-actor calls async', 'calls', 20, pipelined),
  perSecond('placement group create/removal', 'groups', 5),
  perSecond('actors created, called and killed', 'actors', 5),
  lessIsBetter('one actor created and called', 'ms', 5, 5),
  lessIsBetter('1:1 actor call, median', 'µs', 5, 3),
  lessIsBetter('1:1 actor call, 99th percentile', 'µs', 5, 3),
  lessIsBetter('100k queued tasks', 's', 20, 1),
];
const INIT = 'init of a local cluster';

export function coreSuite(python: string | null): readonly Scene[] {
  return [{ names: [...LINES.map(({ name }) => name), INIT], open: () => openLines(python) }, headScene];
}

/** Starts both runtimes, each in a process of its own; both stay up, so that either is measured beside an idle other. */
async function openLines(python: string | null): Promise<OpenScene> {
  const sides = await startSides(
    { command: process.execPath, args: [OURS] },
    python === null ? null : { command: python, args: [RAY] },
  );
  const { ours, peer } = sides;
  const lines = LINES.map(
    ({ goal, ...line }): Figure => ({
      ...line,
      goal: goal < 1 ? { share: goal } : { ratio: goal },
      warmUps: line.rounds > 1 ? 1 : 0,
      ours: () => ours.ask(line.name),
      peer: peer && (() => peer.ask(line.name)),
    }),
  );
  const start: Figure = {
    name: INIT,
    unit: 's',
    isMoreBetter: false,
    goal: { ratio: 8 },
    warmUps: 1,
    rounds: 5,
    ours: () => initSeconds(process.execPath, [OURS]),
    peer: python === null ? null : () => initSeconds(python, [RAY]),
    limit: { name: 'start of one empty Node process', measure: nodeStart },
  };
  return {
    figures: [...lines, start],
    peerName: sides.peerName,
    [Symbol.asyncDispose]: () => sides[Symbol.asyncDispose](),
  };
}

/** What a new process says that its `init` took. */
async function initSeconds(command: string, args: readonly string[]): Promise<{ readonly value: number }> {
  const { process, hello } = await LineProcess.start(command, args);
  await process[Symbol.asyncDispose]();
  return { value: Number(hello.init_seconds) };
}
