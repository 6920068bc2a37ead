// Who ends when memory is short, told as looks at a node.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { NodeId, OutOfMemoryError, WorkerId } from '#src/common/index.js';
import { chooseVictims, type MemoryUser } from '#src/node/memory-victims.js';
import { MemoryWatch } from '#src/node/memory-watch.js';

const GIB = 1024 ** 3;
const user = (name: string, startedAtMs: number, isRetriable: boolean, gib = 1): MemoryUser => ({
  workerId: name as WorkerId,
  pid: startedAtMs,
  name,
  startedAtMs,
  isRetriable,
  bytes: gib * GIB,
});
const names = (users: readonly MemoryUser[]): readonly string[] => users.map(({ name }) => name);

describe('the victims of a shortage of memory', () => {
  const all = [user('actor', 3, false), user('old', 1, true), user('new', 2, true)];
  test('are those that may run again, the newest first, before any that may not', () => {
    assert.deepEqual(names(chooseVictims(all, 0)), ['new']);
    assert.deepEqual(names(chooseVictims(all, 1.5 * GIB)), ['new', 'old']);
    assert.deepEqual(names(chooseVictims(all, 99 * GIB)), ['new', 'old', 'actor']);
  });
  test('are nobody where nobody runs', () => assert.deepEqual(chooseVictims([], GIB), []));
});

describe('the watch', () => {
  function scene(users: MemoryUser[]) {
    const ended: { readonly name: string; readonly error: OutOfMemoryError }[] = [];
    const state = { usedBytes: 0, users };
    const watch = new MemoryWatch(
      {
        nodeId: 'n1' as NodeId,
        threshold: 0.95,
        usage: () => ({ usedBytes: state.usedBytes, totalBytes: 100 * GIB }),
        users: () => state.users,
        end: ({ name }, error) => ended.push({ name, error }),
        log: { info: () => {}, warn: () => {}, error: () => {} },
      },
      0,
    );
    return { watch, state, ended };
  }

  test('leaves all in peace below the threshold', () => {
    const { watch, state, ended } = scene([user('a', 1, true)]);
    state.usedBytes = 94.9 * GIB;
    watch.look();
    assert.deepEqual(ended, []);
  });

  test('ends as many as bring the node 3 GiB below it, and then waits until they have gone', () => {
    const { watch, state, ended } = scene([
      user('a', 1, true),
      user('b', 2, true),
      user('c', 3, true),
      user('d', 4, true),
    ]);
    state.usedBytes = 95 * GIB;
    watch.look();
    watch.look();
    assert.deepEqual(
      ended.map(({ name }) => name),
      ['d', 'c', 'b'],
    );
    state.users = state.users.slice(0, 1);
    watch.look(); // still short, and the others have gone
    assert.deepEqual(
      ended.map(({ name }) => name),
      ['d', 'c', 'b', 'a'],
    );
  });

  test('says who, why, and what else was there', () => {
    const { watch, state, ended } = scene([user('Loader', 7, true, 5), user('Store', 9, false, 20)]);
    state.usedBytes = 96 * GIB;
    watch.look();
    const { error } = ended[0]!;
    assert.equal(error.workerId, 'Loader');
    assert.equal(error.workerBytes, 5 * GIB);
    assert.deepEqual(
      error.workers.map(({ name }) => name),
      ['Store', 'Loader'],
    );
    assert.match(
      error.message,
      /memory is short on node n1 \(96 GiB of 100 GiB\): worker Loader \(pid 7, Loader\) with 5 GiB was ended/,
    );
    assert.match(error.message, /more than 95 % is in use, and it began last of those that may run again/);
    assert.match(error.message, /20 GiB {2}pid 9 {2}Store/);
  });
});
