// What a node keeps of a job's output, and what the head makes of what it gets of it.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { JobId } from '#src/common/index.js';
import { JobLogs } from '#src/head/job-logs.js';
import { JobOutput } from '#src/node/job-output.js';

const folder = mkdtempSync(join(tmpdir(), 'raylite-output-'));
after(() => rmSync(folder, { recursive: true }));
const JOB = 'job-1' as JobId;
const refuses = (error: unknown): never => assert.fail(String(error));
const text = (value: string): Uint8Array => Buffer.from(value);
const textFrom = (output: JobOutput, offset: number): string =>
  Buffer.concat([...output.from(offset)].map(({ chunk }) => chunk)).toString();

test('a node tells each piece with what was before it, and all again from any byte on', () => {
  const output = new JobOutput(join(folder, 'new', 'one'), refuses);
  assert.deepEqual(output.write(text('first ')), { offset: 0, chunk: text('first ') });
  assert.equal(output.write(text('second')).offset, 6);
  assert.equal(textFrom(output, 0), 'first second');
  assert.equal(textFrom(output, 9), 'ond');
  assert.equal(textFrom(output, 12), '');
  output.write(new Uint8Array(200_000).fill(97));
  const pieces = [...output.from(3)];
  assert.deepEqual([pieces.length, pieces[1]!.offset], [4, 3 + 65536]);
  output.remove();
  assert.deepEqual(readdirSync(join(folder, 'new')), []);
});

test('a node keeps no more than the head does, and counts on', () => {
  const output = new JobOutput(join(folder, 'two'), refuses, 10);
  output.write(text('12345678'));
  assert.equal(output.write(text('9abc')).offset, 8);
  assert.equal(output.write(text('d')).offset, 12);
  assert.equal(textFrom(output, 0), '12345678');
  output.remove();
});

test('a disk that refuses is told once a piece; the job goes on', () => {
  const errors: unknown[] = [];
  const output = new JobOutput('/dev/full', (error) => errors.push(error));
  assert.equal(output.write(text('lost')).offset, 0);
  assert.equal(output.write(text('too')).offset, 4);
  assert.equal((errors[0] as NodeJS.ErrnoException).code, 'ENOSPC');
  assert.deepEqual([errors.length, textFrom(output, 0)], [1, '']);
});

test('the head takes no byte twice, says what is missing, and goes on after a restart where its file ends', () => {
  const written = (): string => readFileSync(join(folder, 'job-1.log'), 'utf8');
  {
    using logs = new JobLogs(folder);
    logs.append(JOB, { offset: 0, chunk: text('abc') });
    logs.append(JOB, { offset: 0, chunk: text('abc') });
    logs.append(JOB, { offset: 1, chunk: text('bcde') });
    assert.deepEqual([written(), logs.received(JOB)], ['abcde', 5]);
  }
  using again = new JobLogs(folder);
  assert.equal(again.received(JOB), 5);
  again.append(JOB, { offset: 3, chunk: text('def') });
  assert.equal(written(), 'abcdef');
  again.append(JOB, { offset: 8, chunk: text('ij') });
  assert.equal(written(), 'abcdef\n[raylite: 2 bytes of output were lost on their node]\nij');
  assert.equal(again.received(JOB), 10);
});

test('a log that is full wants nothing more', () => {
  const id = 'job-full' as JobId;
  using logs = new JobLogs(folder, 4);
  logs.append(id, { offset: 0, chunk: text('123456') });
  assert.equal(logs.received(id), Number.MAX_SAFE_INTEGER);
  logs.append(id, { offset: 6, chunk: text('7') });
  const log = readFileSync(join(folder, 'job-full.log'), 'utf8');
  assert.equal(log, '1234\n[raylite: output beyond 4 bytes was dropped]\n');
});
