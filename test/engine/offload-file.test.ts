// The file that a job offloads to: nobody sees it, its space is set aside, and what goes wrong with it is an error that says where;
// pieces are read ahead and written behind as far as they may.
import assert from 'node:assert/strict';
import { readdirSync, readlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { EngineError } from '#src/common/index.js';
import { compileTraining, type FileSettings, meshOf, OffloadFile, TrainStep } from '#src/engine/index.js';
import { initialise } from '#src/models/index.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { openDevice } from './device-for-tests.js';
import { ALONE, OPTIMIZER, randomBatch, tinyLlama } from './models-for-tests.js';

const ROWS = 16;
const settingsIn = (folder: string): FileSettings => {
  return { folder, blockBytes: 4096, queueDepth: 4, threads: 2, singleSubmit: false, overlapEvents: true };
};

/** Descriptors of this process that lie in `folder`. */
const openIn = (folder: string): string[] =>
  readdirSync('/proc/self/fd')
    .map((fd) => join('/proc/self/fd', fd))
    .filter((path) => {
      try {
        return readlinkSync(path).startsWith(folder);
      } catch {
        return false; // the one that listed them
      }
    });

test('the file has no name, and goes with the job; one that is cut off ends the step with its place', async () => {
  using home = temporaryFolder();
  using opened = openDevice();
  const model = tinyLlama();
  const common = { model, rows: ROWS, optimizer: OPTIMIZER, device: opened.device } as const;
  const offload = { optimizer: { device: 'nvme', tileElements: 512, file: settingsIn(home.path) } } as const;
  const strategy = { zeroStage: 1, mesh: meshOf(), rank: 0 } as const;
  await using job = TrainStep.create({ ...common, strategy, offload });
  assert.deepEqual(readdirSync(home.path), []);
  assert.ok(openIn(home.path).length > 0);
  initialise(model, 1, job.parameters);
  const step = async (number: number) => {
    await job.micro(randomBatch([9], ROWS, 37, `${number}`), { scale: 0.1, isFirst: true });
    return job.update({ lr: 1e-3, step: number });
  };
  await step(1);
  truncateSync(openIn(home.path)[0]!, 4096);
  await assert.rejects(step(2), (error: Error) => {
    assert.ok(error instanceof EngineError);
    assert.match(error.message, /disk_read.*the offload file in .* cannot be read at byte \d+: it ends there/);
    assert.ok(error.message.includes(home.path));
    return true;
  });
  await job[Symbol.asyncDispose]();
  assert.deepEqual(openIn(home.path), []);
});

test('a disk without room, and a path that is no folder, are told by name before anything is stepped', () => {
  using home = temporaryFolder();
  assert.throws(
    () => new OffloadFile(settingsIn(home.path), { bytes: 2 ** 50, extents: [] }),
    (error: Error) =>
      error instanceof EngineError && /needs 1125899906842624 bytes, \d+ are free: /.test(error.message),
  );
  const file = join(home.path, 'file');
  writeFileSync(file, '');
  assert.throws(() => new OffloadFile(settingsIn(join(file, 'below')), { bytes: 4096, extents: [] }), /file.*below/);
  assert.deepEqual(openIn(home.path), []);
});

test('bytes come back by buffer and offset, across the pieces that hold them', () => {
  using home = temporaryFolder();
  const extents = [
    { buffer: 'a', offsetBytes: 100, bytes: 50, fileOffset: 4096 },
    { buffer: 'a', offsetBytes: 150, bytes: 30, fileOffset: 0 },
    { buffer: 'b', offsetBytes: 100, bytes: 50, fileOffset: 8192 },
  ];
  using file = new OffloadFile(settingsIn(home.path), { bytes: 3 * 4096, extents });
  const bytes = Uint8Array.from({ length: 80 }, (_, index) => index + 1);
  file.write('a', 100, bytes);
  assert.deepEqual(file.read('a', 100, 80), bytes);
  assert.deepEqual(file.read('a', 140, 20), bytes.subarray(40, 60));
  assert.deepEqual(file.read('b', 100, 50), new Uint8Array(50));
});

/** Whether the read of each piece may run while the piece before is stepped, and its write while the next one is. */
function overlaps(slots: number): readonly [ahead: boolean, behind: boolean] {
  const optimizer = { device: 'nvme', tileElements: 256, slots } as const;
  const job = { model: tinyLlama(), rows: ROWS, strategy: ALONE, optimizer: OPTIMIZER, dtype: 'bf16' } as const;
  const { update, records, memory } = compileTraining({ ...job, offload: { optimizer } });
  const { schedule, graph } = update;
  const of = (kind: string) => graph.ops.flatMap((op, index) => (op.kind === kind ? [index] : []));
  const [reads, steps, writes] = [of('disk_read'), of('adamw'), of('disk_write')];
  assert.ok(steps.length > 8);
  assert.equal(reads.length, steps.length);
  assert.equal(writes.length, steps.length);
  assert.equal(records.extents.length, 3 * steps.length); // master and two averages
  assert.equal(memory.optimizerBytes, 0);
  const every = (test: (index: number) => boolean) => steps.slice(1).every((_, index) => test(index));
  const ahead = every((index) => !schedule.isBefore(steps[index]!, reads[index + 1]!));
  const behind = every((index) => !schedule.isBefore(writes[index]!, steps[index + 1]!));
  return [ahead, behind];
}

test('pieces are read ahead and written behind with two slots and more, one after the other with one', () => {
  assert.deepEqual(overlaps(1), [false, false]);
  assert.deepEqual(overlaps(2), [true, true]);
  assert.deepEqual(overlaps(3), [true, true]);
});
