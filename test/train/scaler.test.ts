// What a 16-bit run carries from step to step.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nextScaler, startScaler } from '#src/train/scaler.js';

test('steps that are skipped one after the other end a run whose scale cannot give way; one good step starts the count again', () => {
  for (const scaling of [null, { kind: 'static', scale: 128 }] as const) {
    let state = startScaler(scaling);
    for (let step = 0; step < 15; step++) state = nextScaler(state, true, scaling);
    state = nextScaler(state, false, scaling);
    for (let step = 0; step < 15; step++) state = nextScaler(state, true, scaling);
    assert.equal(state.skippedSteps, 30);
    assert.throws(() => nextScaler(state, true, scaling), {
      code: 'RAYLITE_TRAINING',
      message: scaling ? /fp16\.loss_scale/ : /16 steps in a row were not finite.*Lower the learning rate/,
    });
  }
});
