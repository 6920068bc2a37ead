// What a node makes of what the driver says of its GPUs, through a stand-in of the driver's library.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { native } from '#src/native/index.js';
import { GpuWatch } from '#src/node/gpu-watch.js';
import { StubGpus } from '../support/stub-gpus.js';

const GIB = 2 ** 30;

test('the driver tells what GPUs there are and how they are; what it does not tell is null', () => {
  using gpus = new StubGpus([{ uuid: 'GPU-a', busyPercent: 7, eccErrors: 0 }, { uuid: 'GPU-b' }]);
  const monitor = gpus.open();
  const [first, second] = monitor.look();
  const a = { uuid: 'GPU-a', name: 'Stub', memoryBytes: 80 * GIB, usedBytes: GIB / 2, busyPercent: 7, celsius: 40 };
  assert.deepEqual(first, { ...a, eccErrors: 0, lastXid: 0 });
  assert.deepEqual([second?.uuid, second?.busyPercent, second?.eccErrors], ['GPU-b', null, null]);
  gpus.set([{ uuid: 'GPU-a' }, { uuid: 'GPU-b', xid: 79 }]);
  assert.deepEqual(
    monitor.look().map(({ lastXid }) => lastXid),
    [0, 79],
  );
  monitor.dispose();
  assert.throws(() => monitor.look(), /was disposed/);
});

test('a library that is missing, and one without a driver, are errors that say so', () => {
  assert.throws(() => native().openGpuMonitor('/nowhere/libnvidia-ml.so.1'), /nowhere/);
  using gpus = new StubGpus([]);
  gpus.open().dispose();
  process.env.RAYLITE_STUB_GPUS = '/nowhere';
  assert.throws(() => native().openGpuMonitor(gpus.library), /nvmlInit: Driver Not Loaded/);
});

function watched(gpus: StubGpus | null, freeWaitMs: number) {
  const lines: string[] = [];
  const note = (text: string): void => void lines.push(text);
  const watch = new GpuWatch({
    monitor: gpus?.open() ?? null,
    log: { info: note, warn: note, error: note },
    freeWaitMs,
  });
  return { watch, lines, [Symbol.dispose]: () => watch[Symbol.dispose]() };
}

test('a GPU with a fault of its own is named, once in the log; a fault of a program is none', () => {
  using gpus = new StubGpus([{ uuid: 'GPU-aa' }, { uuid: 'GPU-bb' }, { uuid: 'GPU-cc', eccErrors: 2 }]);
  using node = watched(gpus, 0);
  assert.deepEqual([...node.watch.faulty(['0', '1', '2'])], ['2']);
  gpus.set([
    { uuid: 'GPU-aa', xid: 31 },
    { uuid: 'GPU-bb', xid: 79 },
    { uuid: 'GPU-cc', eccErrors: 2 },
  ]);
  assert.deepEqual([...node.watch.faulty(['0', '1', '2'])], ['1', '2']);
  assert.deepEqual([...node.watch.faulty(['GPU-b', 'GPU-a'])], ['GPU-b']);
  const uses = node.watch.uses(['1', '0', '7']);
  assert.deepEqual(
    uses.map(({ id, fault, busyPercent }) => [id, fault, busyPercent]),
    [
      ['1', 'Xid 79', -1],
      ['0', '', -1],
    ],
  );
  assert.equal(node.lines.length, 3);
});

test('a worker waits until the memory of the one before it is free, and not for ever', async () => {
  using gpus = new StubGpus([{ uuid: 'GPU-a' }]);
  using node = watched(gpus, 60_000);
  await node.watch.freed(['0']);
  gpus.set([{ uuid: 'GPU-a', usedBytes: 9 * GIB }]);
  let isFree = false;
  const freed = node.watch.freed(['0']).then(() => {
    isFree = true;
  });
  await new Promise(setImmediate);
  assert.equal(isFree, false);
  gpus.set([{ uuid: 'GPU-a', usedBytes: GIB / 2 + 1000 }]);
  await freed;
  assert.deepEqual(node.lines, []);

  using hasty = watched(gpus, 0);
  gpus.set([{ uuid: 'GPU-a', usedBytes: 9 * GIB }]);
  await hasty.watch.freed(['0']);
  assert.deepEqual(hasty.lines, ['a worker starts on a GPU whose memory another process still holds']);
});

test('without a driver every GPU is well and free', async () => {
  using node = watched(null, 0);
  assert.deepEqual([...node.watch.faulty(['0'])], []);
  assert.deepEqual(node.watch.uses(['0']), []);
  await node.watch.freed(['0']);
  assert.deepEqual(node.lines, []);
});
