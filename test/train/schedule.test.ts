// Schedules of the learning rate: by name, and against the rates that DeepSpeed gave.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { learningRate, type Schedule } from '#src/train/index.js';
import { resolved } from './ds-config-for-tests.js';

test('the schedules of Transformers can be named too', async () => {
  const { schedule } = await resolved({ scheduler: { type: 'linear', params: { warmup_num_steps: 10 } } });
  assert.deepEqual(schedule, { kind: 'linear', rate: 3e-4, warmupSteps: 10, totalSteps: 100 });
  const constant = await resolved({ scheduler: { type: 'constant_with_warmup', params: {} } });
  assert.deepEqual(constant.schedule, { kind: 'constant_with_warmup', rate: 3e-4, warmupSteps: 3 });
});

interface GoldenSchedule {
  readonly name: string;
  readonly kind: string;
  readonly library: string;
  readonly schedule: 'WarmupLR' | 'WarmupDecayLR' | 'WarmupCosineLR';
  readonly warmup_type: 'log' | 'linear';
  readonly lr: number;
  readonly warmup: number;
  readonly total: number;
  readonly warmup_min_lr: number;
  readonly cos_min_ratio: number;
  readonly warmup_min_ratio: number;
  readonly rates: readonly number[];
}

const golden = resolve('../shared/golden/optim/cases.json');
test('schedules give the recorded rates of DeepSpeed', {
  skip: existsSync(golden) ? false : `${golden} is not on this machine`,
}, async () => {
  const { cases } = JSON.parse(await readFile(golden, 'utf8')) as { readonly cases: readonly GoldenSchedule[] };
  const schedules = cases.filter(({ kind, library }) => kind === 'schedule' && library === 'DeepSpeed');
  assert.ok(schedules.length >= 6);
  for (const item of schedules) {
    const schedule: Schedule = {
      kind: item.schedule,
      rate: item.lr,
      warmupSteps: item.warmup,
      warmupType: item.warmup_type,
      minRate: item.warmup_min_lr,
      totalSteps: item.total,
      minRatio: item.cos_min_ratio,
      warmupMinRatio: item.warmup_min_ratio,
    };
    item.rates.forEach((rate, step) => {
      assert.ok(Math.abs(learningRate(schedule, step) - rate) <= 1e-12, `${item.name}, step ${step}`);
    });
  }
});
