// ds_config: how numbers are stored, and the loss scale.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DsConfigInput, readDsConfig } from '#src/train/index.js';
import { AUTO, resolved } from './ds-config-for-tests.js';

test('fp16 and bf16 say how numbers are stored, with the loss scale of DeepSpeed', async () => {
  const precision = async (config: DsConfigInput, chosen = {}) =>
    (await resolved(config, { ...AUTO, ...chosen })).precision;
  const plain = { dtype: 'f32', lossScaling: null, hasMasters: false, stateDtype: 'f32' };
  const mastered = { hasMasters: true, stateDtype: 'f32' };
  const dynamic = {
    kind: 'dynamic',
    initialScalePower: 16,
    windowSteps: 1000,
    hysteresis: 2,
    minScale: 1,
    isHysteresisConsecutive: false,
  };
  assert.deepEqual(await precision({}), plain);
  assert.deepEqual(await precision({ fp16: {}, bf16: { enabled: false } }), plain);
  assert.deepEqual(await precision({ bf16: { enabled: true } }), { ...mastered, dtype: 'bf16', lossScaling: null });
  assert.deepEqual(await precision({ fp16: { enabled: true } }), { ...mastered, dtype: 'f16', lossScaling: dynamic });
  const tuned = { initial_scale_power: 32, loss_scale_window: 5, hysteresis: 1, min_loss_scale: 0.5 };
  assert.deepEqual(await precision({ fp16: { enabled: true, consecutive_hysteresis: true, ...tuned } }), {
    ...mastered,
    dtype: 'f16',
    lossScaling: {
      kind: 'dynamic',
      initialScalePower: 32,
      windowSteps: 5,
      hysteresis: 1,
      minScale: 0.5,
      isHysteresisConsecutive: true,
    },
  });
  const bare = { enabled: true, bf16_master_weights_and_grads: true };
  assert.equal((await precision({ bf16: bare })).hasMasters, false);
  const { hasMasters, stateDtype } = await precision({ bf16: { ...bare, bf16_optimizer_states: true } });
  assert.deepEqual([hasMasters, stateDtype], [false, 'bf16']);
  const fixed = await precision({ fp16: { enabled: true, loss_scale: 128 } });
  assert.deepEqual(fixed.lossScaling, { kind: 'static', scale: 128 });
  // "auto" and a block that is not there are what the recipe says.
  assert.equal(
    (await precision({ bf16: { enabled: 'auto' }, fp16: { enabled: 'auto' } }, { bf16: true })).dtype,
    'bf16',
  );
  assert.equal((await precision({ fp16: { enabled: 'auto' } })).dtype, 'f32');
  assert.deepEqual(await precision({}, { fp16: true }), { ...mastered, dtype: 'f16', lossScaling: dynamic });
});

test('contradictions about the precision are refused', async () => {
  await assert.rejects(
    resolved({ fp16: { enabled: true }, bf16: { enabled: true } }),
    /deepspeed\.fp16\.enabled: expected false beside bf16, got true/,
  );
  await assert.rejects(
    resolved({ bf16: { enabled: false } }, { ...AUTO, bf16: true } as typeof AUTO),
    /deepspeed\.bf16\.enabled: expected "auto" or true, as the recipe's bf16, got false/,
  );
  await assert.rejects(resolved({}, { ...AUTO, bf16: true, fp16: true } as typeof AUTO), /Choose one of the two/);
  await assert.rejects(resolved({ fp16: { loss_scale: -1 } }), /fp16\.loss_scale/);
  await assert.rejects(
    resolved({ bf16: { enabled: false, bf16_optimizer_states: true } }),
    /deepspeed\.bf16\.bf16_optimizer_states: expected false unless bf16 is enabled, got true/,
  );
  await assert.rejects(resolved({ bf16: { check_grad_overflow: false } } as never), /bf16\.check_grad_overflow/);
  await assert.rejects(readDsConfig({ fp16: { lossscale: 1 } } as never), /Did you mean "loss_scale"/);
});
