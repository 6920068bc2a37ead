// Curves in files: DeepSpeed's CSV, TensorBoard's records, and what becomes of both when a run goes back to a checkpoint.
import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import protobuf from 'protobufjs';
import type { StepEvent } from '#src/train/index.js';
import { crc32c } from '#src/train/monitor/crc32c.js';
import { CsvLog, withoutPointsBehind } from '#src/train/monitor/csv-log.js';
import { type MonitorSettings, RunMonitors } from '#src/train/monitor/run-monitors.js';

const ROWS = 8;
const step = (number: number, more: Partial<StepEvent> = {}): StepEvent => ({
  kind: 'step',
  step: number,
  totalSteps: 10,
  epoch: number / 10,
  loss: 4 / number,
  gradientNorm: 1,
  lossScale: null,
  skippedSteps: 0,
  learningRate: 0.5,
  tokensPerSecond: 0,
  etaSeconds: 0,
  memoryBytes: 0,
  estimateBytes: 0,
  ...more,
});

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'raylite-curves-'));
  t.after(() => rm(path, { recursive: true }));
  return path;
}

/** Each start of a run: the step that it goes on behind, and the last one that it does. */
async function write(settings: readonly MonitorSettings[], attempts: readonly (readonly [number, number])[]) {
  const notes: string[] = [];
  const monitors = new RunMonitors(
    settings,
    ROWS,
    (note) => notes.push(note),
    () => 1_700_000_000_000,
  );
  for (const [from, to] of attempts) {
    await monitors.start(from);
    for (let number = from + 1; number <= to; number += 1) monitors.stepped(step(number));
    await monitors.flush();
  }
  return { monitors, notes };
}

const settings = (kind: 'csv' | 'tensorboard', path: string, names: MonitorSettings['names'] = 'deepspeed') => ({
  kind,
  folder: path,
  names,
  option: 'deepspeed.csv_monitor.output_path',
});

// The part of tensorflow/core/util/event.proto and framework/summary.proto that is used, read by a decoder that knows the names.
const { root } = protobuf.parse(`
  syntax = "proto3";
  message SessionLog { int32 status = 1; }
  message Value { string tag = 1; float simple_value = 2; }
  message Summary { repeated Value value = 1; }
  message Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; SessionLog session_log = 7; }
`);
interface Event {
  readonly step?: number;
  readonly fileVersion?: string;
  readonly summary?: { readonly value: readonly { readonly tag: string; readonly simpleValue: number }[] };
  readonly sessionLog?: { readonly status: number };
}

async function eventsIn(path: string): Promise<readonly Event[]> {
  const events: Event[] = [];
  for (const name of (await readdir(path)).sort()) {
    const file = await readFile(join(path, name));
    for (let at = 0; at < file.length; ) {
      const length = Number(file.readBigUInt64LE(at));
      const type = root.lookupType('Event');
      events.push(type.toObject(type.decode(file.subarray(at + 12, at + 12 + length)), { longs: Number }) as Event);
      at += length + 16;
    }
  }
  return events;
}

const losses = (events: readonly Event[]) =>
  events.flatMap(({ step: at, summary }) =>
    (summary?.value ?? []).filter(({ tag }) => /loss$/.test(tag)).map(({ simpleValue }) => [at, simpleValue]),
  );

test('CRC-32C gives the published numbers', () => {
  // RFC 3720 B.4, and the check value of the Rocksoft catalogue.
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
});

test('csv_monitor writes the files, names and columns of DeepSpeed, over rows', async (t) => {
  const path = await folder(t);
  const { monitors } = await write([settings('csv', path)], [[0, 2]]);
  monitors.stepped(step(3, { loss: Number.NaN, lossScale: 1024 }));
  await monitors.flush();
  assert.deepEqual((await readdir(path)).sort(), [
    'Train_Samples_loss_scale.csv',
    'Train_Samples_lr.csv',
    'Train_Samples_train_loss.csv',
  ]);
  const text = (name: string) => readFile(join(path, `Train_Samples_${name}.csv`), 'utf8');
  assert.equal(await text('train_loss'), 'step,train_loss\n8,4\n16,2\n24,nan\n');
  assert.equal(await text('lr'), 'step,lr\n8,0.5\n16,0.5\n24,0.5\n');
  assert.equal(await text('loss_scale'), 'step,loss_scale\n24,1024\n');
});

test('reportTo has the names of Transformers, over steps, and the scores of the end', async (t) => {
  const path = await folder(t);
  const { monitors } = await write([settings('csv', path, 'transformers')], [[0, 1]]);
  monitors.stepped(step(2, { tokensPerSecond: 50 }));
  monitors.scored({ accuracy: 0.75 });
  await monitors.flush();
  const names = ['eval_accuracy', 'train_epoch', 'train_grad_norm', 'train_learning_rate', 'train_loss'];
  assert.deepEqual(
    (await readdir(path)).sort(),
    [...names, 'train_tokens_per_second'].map((name) => `${name}.csv`),
  );
  assert.equal(await readFile(join(path, 'eval_accuracy.csv'), 'utf8'), 'step,accuracy\n2,0.75\n');
  assert.equal(await readFile(join(path, 'train_loss.csv'), 'utf8'), 'step,loss\n1,4\n2,2\n');
});

test('a run that goes back to a checkpoint, here or in another process, has each step once', async (t) => {
  for (const kind of ['csv', 'tensorboard'] as const) {
    const path = await folder(t);
    await write(
      [settings(kind, path)],
      [
        [0, 5],
        [3, 6],
      ],
    );
    await write([settings(kind, path)], [[4, 7]]);
    const expected = [1, 2, 3, 4, 5, 6, 7].map((number) => [number * ROWS, Math.fround(4 / number)]);
    if (kind === 'csv') {
      const text = await readFile(join(path, 'Train_Samples_train_loss.csv'), 'utf8');
      const points = text.trim().split('\n').slice(1);
      assert.deepEqual(
        points.map((line) => line.split(',').map((value) => Math.fround(Number(value)))),
        expected,
      );
    } else {
      const events = await eventsIn(path);
      assert.equal(events[0]!.fileVersion, 'brain.Event:2');
      assert.deepEqual(losses(events), expected);
      // Who looks on is told from where the points before are void.
      assert.deepEqual(
        events.filter(({ sessionLog }) => sessionLog?.status === 1).map(({ step: at }) => at),
        [3 * ROWS + 1, 4 * ROWS + 1],
      );
    }
  }
});

test('what a crash cut off or damaged is taken out when the run goes on', async (t) => {
  const path = await folder(t);
  await write([settings('tensorboard', path)], [[0, 2]]);
  const [name] = await readdir(path);
  await appendFile(join(path, name!), Buffer.from([40, 0, 0, 0, 0, 0]));
  await write([settings('tensorboard', path)], [[2, 3]]);
  assert.deepEqual(
    losses(await eventsIn(path)).map(([at]) => at),
    [8, 16, 24],
  );
  assert.equal(withoutPointsBehind('step,lr\n8,1\n16,', 99), 'step,lr\n8,1\n');
});

test('a run that starts anew leaves the curves of another one in the folder', async (t) => {
  const path = await folder(t);
  await writeFile(join(path, 'notes.csv'), 'name,value\n');
  await write([settings('csv', path)], [[0, 2]]);
  await write(
    [settings('csv', path)],
    [
      [0, 2],
      [0, 1],
    ],
  );
  const text = await readFile(join(path, 'Train_Samples_train_loss.csv'), 'utf8');
  assert.equal(text, 'step,train_loss\n8,4\n16,2\nstep,train_loss\n8,4\n');
  assert.equal(await readFile(join(path, 'notes.csv'), 'utf8'), 'name,value\n');
});

test('a folder that cannot be written is told before the first step; one that is gone later ends only its curves', async (t) => {
  const path = await folder(t);
  await writeFile(join(path, 'file'), '');
  await assert.rejects(
    write([settings('csv', join(path, 'file', 'curves'))], [[0, 1]]),
    /deepspeed\.csv_monitor\.output_path: expected a folder that can be written, got .*file/,
  );
  const curves = join(path, 'curves');
  const { monitors, notes } = await write([settings('csv', curves)], [[0, 1]]);
  await rm(curves, { recursive: true });
  monitors.stepped(step(2));
  monitors.stepped(step(3));
  await monitors.flush();
  assert.equal(notes.length, 1);
  assert.match(notes[0]!, /^csv writes nothing more to .*curves: Error: ENOENT/);
  await new CsvLog(curves).start(0, true); // made again by the next run
});
