// What becomes of tasks whose worker ended: out of which budget they run again, and how they fail.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { CrashedTasks } from '#src/client/crashed-tasks.js';
import type { Invocation } from '#src/client/invocation.js';
import { type NodeId, OutOfMemoryError, type WorkerId } from '#src/common/index.js';
import { errorOf, failureOf, type wire } from '#src/protocol/index.js';

const SETTINGS = ['RAYLITE_TASK_OOM_RETRIES', 'RAYLITE_TASK_OOM_RETRY_DELAY_BASE_MS'];
/** Pauses keep no process alive, as in a driver whose code waits for nothing. */
let awake: NodeJS.Timeout;
beforeEach(() => {
  awake = setInterval(() => {}, 1000);
  process.env.RAYLITE_TASK_OOM_RETRY_DELAY_BASE_MS = '0';
});
afterEach(() => {
  clearInterval(awake);
  for (const name of SETTINGS) delete process.env[name];
});

type End = wire.WorkerEnd.$Properties | null;
const short = (endedBy: 'watch' | 'limit'): End => ({
  detail: 'killed',
  cause: failureOf(
    new OutOfMemoryError({
      nodeId: 'n' as NodeId,
      workerId: 'w' as WorkerId,
      pid: 1,
      name: '',
      workerBytes: 1,
      usedBytes: 1,
      totalBytes: 1,
      detail: 'so it is',
      endedBy,
      workers: [],
    }),
  ),
});
const crash: End = { detail: 'its process was ended by SIGSEGV', signal: 'SIGSEGV' };

/** News that comes when it is told. */
function awaited(): readonly [Promise<End>, (end: End) => void] {
  let tell: (end: End) => void = () => {};
  const news = new Promise<End>((resolve) => {
    tell = resolve;
  });
  return [news, tell];
}

/** One task, and what was done with it. */
class Crashing {
  readonly errors: Error[] = [];
  runs = 0;
  readonly task: Invocation;
  readonly tasks = new CrashedTasks(() => {
    this.runs += 1;
  });
  constructor(retries: number) {
    const { errors } = this;
    this.task = {
      name: 'work',
      shape: { retries },
      retriesLeft: retries,
      mayGoAgain(this: { retriesLeft: number }): boolean {
        if (this.retriesLeft > 0) return this.retriesLeft-- > 0;
        return this.retriesLeft === -1;
      },
      fail: (error: Error) => errors.push(error),
    } as unknown as Invocation;
  }
  take(end: End | Promise<End>): Promise<void> {
    const failureOf = async (): Promise<Error> => {
      const cause = (await end)?.cause;
      return cause ? errorOf(cause) : new Error('it crashed');
    };
    return this.tasks.take(this.task, { end: Promise.resolve(end), failureOf }, 'broken');
  }
}

test('ends for want of memory on the node take no retries, whatever their number; crashes do', async () => {
  const work = new Crashing(1);
  for (let end = 0; end < 5; end += 1) await work.take(short('watch'));
  assert.deepEqual([work.runs, work.task.retriesLeft], [5, 1]);
  await work.take(crash);
  assert.deepEqual([work.runs, work.task.retriesLeft], [6, 0]);
  await work.take(short('watch'));
  assert.equal(work.runs, 7);
  await work.take(crash);
  assert.deepEqual(work.errors, [new Error('it crashed')]);
});

test('a task that asks for no retries has none for memory either; its own limit is a crash as any other', async () => {
  const none = new Crashing(0);
  await none.take(short('watch'));
  assert.ok(none.errors[0] instanceof OutOfMemoryError);
  const own = new Crashing(1);
  await own.take(short('limit'));
  await own.take(short('limit'));
  assert.deepEqual([own.runs, own.errors.map((error) => error.name)], [1, ['OutOfMemoryError']]);
});

test('RAYLITE_TASK_OOM_RETRIES bounds them; a setting that is no number is named', async () => {
  process.env.RAYLITE_TASK_OOM_RETRIES = '2';
  const work = new Crashing(3);
  for (let end = 0; end < 3; end += 1) await work.take(short('watch'));
  assert.deepEqual([work.runs, work.task.retriesLeft, work.errors.length], [2, 3, 1]);
  process.env.RAYLITE_TASK_OOM_RETRIES = 'many';
  assert.throws(() => new Crashing(1), { path: 'RAYLITE_TASK_OOM_RETRIES' });
});

test('news that comes after the task ran again gives its retry back', async () => {
  const work = new Crashing(1);
  const [news, tell] = awaited();
  await work.take(news);
  assert.deepEqual([work.runs, work.task.retriesLeft], [1, 0]);
  tell(short('watch'));
  await news;
  await new Promise(setImmediate);
  assert.equal(work.task.retriesLeft, 1);
});

test('a task that rests may be taken out, or fails when its process leaves', async () => {
  const [news, tell] = awaited();
  const cancelled = new Crashing(1);
  const first = cancelled.take(news);
  assert.equal(cancelled.tasks.remove(cancelled.task), true);
  const left = new Crashing(1);
  const second = left.take(news);
  left.tasks.close(new Error('left'));
  tell(crash);
  await Promise.all([first, second]);
  assert.deepEqual([cancelled.runs, cancelled.errors, left.runs, left.errors.length], [0, [], 0, 1]);
});
