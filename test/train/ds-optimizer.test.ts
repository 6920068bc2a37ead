// ds_config: the optimizers, by the names and with the defaults of DeepSpeed and torch.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DsConfigInput } from '#src/train/index.js';
import { resolved } from './ds-config-for-tests.js';

test('Adam decays apart from the gradient unless adam_w_mode is off', async () => {
  const decoupled = async (type: 'Adam' | 'AdamW', adam_w_mode?: boolean) => {
    const params = adam_w_mode === undefined ? {} : { adam_w_mode };
    const { optimizer } = await resolved({ optimizer: { type, params } });
    return optimizer.kind === 'adamw' && optimizer.isDecayDecoupled;
  };
  assert.deepEqual(
    [await decoupled('AdamW'), await decoupled('Adam'), await decoupled('Adam', false)],
    [true, true, false],
  );
});

test('the other optimizers have the names, parameters and defaults of DeepSpeed and torch', async () => {
  const common = { weightDecay: 0.1, maxGradientNorm: 0.5 };
  const of = async (optimizer: NonNullable<DsConfigInput['optimizer']>) => (await resolved({ optimizer })).optimizer;
  assert.deepEqual(await of({ type: 'Lion' }), { kind: 'lion', ...common, beta1: 0.9, beta2: 0.99 });
  assert.deepEqual(await of({ type: 'Adagrad', params: { initial_accumulator_value: 0.1 } }), {
    kind: 'adagrad',
    ...common,
    eps: 1e-10,
    lrDecay: 0,
    initialSum: 0.1,
  });
  assert.deepEqual(await of({ type: 'SGD', params: { momentum: 0.9, nesterov: true, weight_decay: 0 } }), {
    kind: 'sgd',
    ...common,
    weightDecay: 0,
    momentum: 0.9,
    dampening: 0,
    isNesterov: true,
  });
  const muon = { kind: 'muon', ...common, momentum: 0.95, isNesterov: true, iterations: 5 };
  const adam = { beta1: 0.9, beta2: 0.95, eps: 1e-10 };
  assert.deepEqual(await of({ type: 'muon' as 'Muon' }), { ...muon, adam: { ...adam, rateRatio: 3e-4 / 0.02 } });
  const rates = { type: 'Muon', params: { lr: 0.01, adam_lr: 0.002 } } as const;
  assert.deepEqual(await of(rates), { ...muon, adam: { ...adam, rateRatio: 0.2 } });
  assert.deepEqual((await resolved({ optimizer: rates })).schedule, { kind: 'constant', rate: 0.01 });
  const scheduler = { type: 'WarmupLR', params: { warmup_max_lr: 0.1 } } as const;
  const both = (await resolved({ optimizer: rates, scheduler })).optimizer;
  assert.ok(both.kind === 'muon' && both.adam.rateRatio === 1);
  const contradiction = { type: 'SGD', params: { nesterov: true } } as const;
  await assert.rejects(of(contradiction), /params\.nesterov: expected a momentum above 0 and no dampening/);
  await assert.rejects(of({ type: 'Lion', params: { eps: 1 } as object }), /eps/);
});
