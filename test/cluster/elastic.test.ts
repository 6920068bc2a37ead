// One run on one layout of workers after another: through checkpoints it goes on wherever it is told to.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { close, KEY_BIASES, sameModel, type TinyOptions, tinyRuns } from './tiny-trainer.js';

const { trainer } = tinyRuns('elastic');

test('four workers at stage 3, then two by two tensor ranks at stage 1, then one: the losses and the model of one throughout', async () => {
  const run = { checkpoint: { everySteps: 1, numToKeep: 1 } };
  const layouts: readonly (readonly [until: number | null, workers: number, more: TinyOptions])[] = [
    [3, 4, { zero: 3 }],
    [5, 4, { zero: 1, scaling: { tensorParallel: 2 } }],
    [null, 1, {}],
  ];
  const from: number[] = [];
  for (const [index, [until, workers, more]] of layouts.entries()) {
    const stopped = new AbortController();
    const stage = trainer('chain', workers, { ...more, run: { ...run, resume: index > 0 } }).fit({
      onProgress(event) {
        if (event.kind === 'started') from.push(event.fromStep);
        if (event.kind === 'checkpoint' && event.step === until) stopped.abort(new Error('on to the next'));
      },
      signal: stopped.signal,
    });
    if (index < layouts.length - 1) {
      await assert.rejects(stage, /on to the next/);
      continue;
    }
    const chain = await stage;
    assert.deepEqual(from, [0, 3, 5]);
    const one = await trainer('one', 1).fit();
    close(chain.losses, one.losses);
    await sameModel(chain.model, one.model, 1e-4, KEY_BIASES);
  }
});
