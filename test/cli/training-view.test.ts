// What a training run shows on a terminal of any width, and where there is none.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TrainingView } from '#src/cli/training-view.js';
import type { StepEvent, TrainingEvent } from '#src/train/index.js';

/** What was written to an output of so many columns; null: no terminal. */
function shown(columns: number | null, events: readonly TrainingEvent[]): string[] {
  const written: string[] = [];
  const out = { isTTY: columns !== null, columns: columns ?? undefined, write: (text: string) => written.push(text) };
  const view = new TrainingView(out as never);
  for (const event of events) view.show(event);
  return written;
}

const step = (at: number, loss: number, tokensPerSecond = 12_345): StepEvent => ({
  kind: 'step',
  step: at,
  totalSteps: 1100,
  epoch: 0,
  loss,
  gradientNorm: 1,
  lossScale: null,
  skippedSteps: 0,
  learningRate: 1e-3,
  tokensPerSecond,
  etaSeconds: 98,
  memoryBytes: 20 * 2 ** 20,
  estimateBytes: 20 * 2 ** 20,
});

test('the line of a run never wraps; the bar shrinks first, then the last figures go', () => {
  for (const columns of [200, 100, 90, 80, 60, 40, 20, 10]) {
    const line = shown(columns, [step(550, 2)])[0]!.replace('\r\u001b[2K', '');
    assert.ok(line.length < columns, `${columns}: ${line}`);
  }
  const wide = shown(120, [step(550, 2)])[0]!;
  assert.match(
    wide,
    /\[█{12}░{12}\] step 550\/1100 {2}loss 2\.000 {2}12345 tokens\/s {2}ETA 1m 38s {2}memory 20 MiB, estimated 20 MiB/,
  );
  const narrow = shown(60, [step(550, 2)])[0]!;
  assert.match(narrow, /\[█+░+\] step 550\/1100 {2}loss 2\.000/);
  assert.doesNotMatch(narrow, /memory/);
});

test('the loss shown is a running mean, and starts anew with a new run', () => {
  const lines = shown(200, [step(1, 4), step(2, 2), step(1, 1)]);
  assert.deepEqual(
    lines.map((line) => /loss (\S+)/.exec(line)?.[1]),
    ['4.000', '3.000', '1.000'],
  );
});

test('nothing is promised before the pace is known', () => {
  assert.match(shown(200, [step(1, 4, 0)])[0]!, /– tokens\/s {2}ETA –/);
});

test('without a terminal there are plain lines, without control characters', () => {
  const [line] = shown(null, [step(1, 4)]);
  assert.match(line!, /^step 1\/1100 .*\n$/);
});

test('a run that waits for room says for how long and why, with the end of the wait where there is one', () => {
  const reason = 'waits for a first node to join';
  const wait = { kind: 'waiting', workers: 4, reason, seconds: 600 } as const;
  assert.deepEqual(shown(null, [wait, { ...wait, workers: 1, seconds: null }]), [
    'no room for 4 workers yet (gives up after 10m 0s): waits for a first node to join\n',
    'no room for one worker yet: waits for a first node to join\n',
  ]);
});

test('a rank that lets the others wait is told in a line of its own, and that it came', () => {
  const message = 'rank 2 is late: rank 0 has waited 4.1 s in barrier at instruction 1 (barrier, h.1)';
  const late = { kind: 'late', ranks: [2], message } as const;
  assert.deepEqual(shown(null, [late, { kind: 'came', ranks: [2], message: '' }]), [
    `warning: ${message}\n`,
    'rank 2 came\n',
  ]);
});
