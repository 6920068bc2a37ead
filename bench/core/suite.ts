// Suite `core`: calls, tasks, small objects and start-up beside Ray's, by the lines of `ray microbenchmark`.
import { fileURLToPath } from 'node:url';
import type { Figure, OpenScene, Scene } from '../harness/figure.js';
import { LineProcess, startSides } from '../harness/line-process.js';
import { awaits, nodeStart, pingPong } from '../limits/index.js';
import { headScene } from './head.js';

const OURS = fileURLToPath(new URL('./ours.js', import.meta.url));
const RAY = 'bench/peers/ray_core.py';
const BATCH = 1000;

const socket = { name: 'unix socket ping-pong', measure: () => pingPong(1) };
const pipelined = { name: `unix socket, ${BATCH} in flight`, measure: () => pingPong(BATCH) };
const promises = { name: 'awaited promises', measure: awaits };

const CALLS = [
  { command: 'actor-sync', name: '1:1 actor calls sync', unit: 'calls/s', goal: 5, limit: socket },
  { command: 'actor-async', name: '1:1 actor calls async', unit: 'calls/s', goal: 20, limit: pipelined },
  { command: 'task-sync', name: 'tasks sync', unit: 'tasks/s', goal: 5, limit: socket },
  { command: 'task-async', name: 'tasks async', unit: 'tasks/s', goal: 20, limit: pipelined },
  { command: 'put-small', name: 'small put', unit: 'puts/s', goal: 10, limit: promises },
  { command: 'get-small', name: 'small get', unit: 'gets/s', goal: 10, limit: promises },
] as const;
const INIT = 'init of a local cluster';

export function coreSuite(python: string | null): readonly Scene[] {
  return [{ names: [...CALLS.map(({ name }) => name), INIT], open: () => openCalls(python) }, headScene];
}

/** Starts both runtimes, each in a process of its own; both stay up, so that either is measured beside an idle other. */
async function openCalls(python: string | null): Promise<OpenScene> {
  const sides = await startSides(
    { command: process.execPath, args: [OURS] },
    python === null ? null : { command: python, args: [RAY] },
  );
  const { ours, peer } = sides;
  const calls: Figure[] = CALLS.map(({ command, goal, ...figure }) => ({
    ...figure,
    goal: { ratio: goal },
    isMoreBetter: true,
    warmUps: 2,
    rounds: 5,
    ours: () => ours.ask(command),
    peer: peer && (() => peer.ask(command)),
  }));
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
    figures: [...calls, start],
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
