// LRRangeTest and OneCycle against the numbers of DeepSpeed, and how a moving momentum reaches the optimizer.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DsConfigInput, learningRate, readDsConfig, resolveDsConfig } from '#src/train/index.js';
import { momentum } from '#src/train/schedule.js';

interface Recorded {
  readonly scheduler: NonNullable<DsConfigInput['scheduler']>;
  readonly rates: readonly number[];
  /** None: the optimizer's own stays. */
  readonly momenta?: readonly number[];
}

/** Of the steps from the first: what deepspeed/runtime/lr_schedules.py of DeepSpeed 0.19.8 had set in the optimizer before each. */
const RECORDED: readonly Recorded[] = [
  {
    scheduler: { type: 'LRRangeTest', params: {} },
    rates: [0.001, 0.0010004999999999999, 0.001001, 0.0010015, 0.001002],
  },
  {
    scheduler: {
      type: 'LRRangeTest',
      params: { lr_range_test_min_lr: 0.01, lr_range_test_step_size: 4, lr_range_test_step_rate: 5 },
    },
    rates: [0.01, 0.0225, 0.035, 0.0475, 0.06, 0.0725, 0.085, 0.0975, 0.11, 0.1225],
  },
  {
    scheduler: {
      type: 'LRRangeTest',
      params: {
        lr_range_test_min_lr: 0.01,
        lr_range_test_step_size: 3,
        lr_range_test_step_rate: 0.5,
        lr_range_test_staircase: true,
      },
    },
    rates: [0.01, 0.01, 0.01, 0.015, 0.015, 0.015, 0.02, 0.02, 0.02, 0.025],
  },
  {
    scheduler: { type: 'OneCycle', params: { cycle_min_lr: 0.001, cycle_max_lr: 0.01, cycle_first_step_size: 4 } },
    rates: [
      0.001, 0.0032500000000000003, 0.0055000000000000005, 0.007750000000000001, 0.010000000000000002,
      0.007750000000000001, 0.0055000000000000005, 0.0032500000000000003, 0.001, 0.001, 0.001, 0.001,
    ],
    momenta: [
      0.8, 0.875, 0.8500000000000001, 0.8250000000000001, 0.8, 0.8250000000000001, 0.8500000000000001, 0.875, 0.9, 0.9,
      0.9, 0.9,
    ],
  },
  {
    scheduler: {
      type: 'OneCycle',
      params: {
        cycle_min_lr: 0.001,
        cycle_max_lr: 0.01,
        cycle_first_step_size: 3,
        cycle_second_step_size: 5,
        decay_step_size: 2,
        decay_lr_rate: 0.5,
        decay_mom_rate: 0.01,
        cycle_min_mom: 0.7,
        cycle_max_mom: 0.95,
      },
    },
    rates: [
      0.001, 0.004, 0.007, 0.010000000000000002, 0.008200000000000002, 0.0064, 0.004600000000000001,
      0.0028000000000000004, 0.001, 0.0008, 0.0006666666666666666, 0.0005714285714285715, 0.0005,
      0.00044444444444444447,
    ],
    momenta: [
      0.7, 0.8666666666666666, 0.7833333333333333, 0.7, 0.75, 0.7999999999999999, 0.85, 0.8999999999999999, 0.95,
      0.9547499999999999, 0.9594999999999999, 0.9642499999999998, 0.969, 0.9737499999999999,
    ],
  },
  {
    scheduler: {
      type: 'OneCycle',
      params: {
        cycle_min_lr: 0.001,
        cycle_max_lr: 0.01,
        cycle_first_step_size: 6,
        cycle_second_step_size: 3,
        cycle_first_stair_count: 3,
        cycle_second_stair_count: 2,
        cycle_momentum: false,
      },
    },
    rates: [
      0.001, 0.001, 0.004, 0.004, 0.007, 0.007, 0.010000000000000002, 0.0055000000000000005, 0.001, 0.001, 0.001, 0.001,
    ],
  },
  {
    scheduler: {
      type: 'OneCycle',
      params: {
        cycle_min_lr: 0.001,
        cycle_max_lr: 0.01,
        cycle_first_step_size: 5,
        cycle_first_stair_count: 2,
        decay_step_size: 1,
        decay_lr_rate: 0.25,
      },
    },
    rates: [
      0.001, 0.001, 0.001, 0.0055000000000000005, 0.0055000000000000005, 0.010000000000000002, 0.0055000000000000005,
      0.0055000000000000005, 0.001, 0.001, 0.001, 0.0008, 0.0006666666666666666,
    ],
    momenta: [
      0.8, 0.9, 0.9, 0.8500000000000001, 0.8500000000000001, 0.8, 0.8500000000000001, 0.8500000000000001, 0.9, 0.9, 0.9,
      0.9, 0.9,
    ],
  },
];

const resolved = async (config: DsConfigInput, totalSteps = 100) =>
  resolveDsConfig(await readDsConfig(config), {
    worldSize: 1,
    totalSteps,
    learningRate: 3e-4,
    weightDecay: 0,
    maxGradientNorm: 1,
    microBatch: 1,
  });

for (const { scheduler, rates, momenta } of RECORDED)
  test(`${scheduler.type} with ${JSON.stringify(scheduler.params)} has the rates and momenta of DeepSpeed`, async () => {
    const { schedule, optimizer } = await resolved({ scheduler }, rates.length);
    for (const [step, rate] of rates.entries()) {
      const found = learningRate(schedule, step);
      assert.ok(Math.abs(found - rate) <= 1e-15, `step ${step}: ${found} is not ${rate}`);
      const beta = momentum(schedule, step);
      if (momenta === undefined) assert.equal(beta, null);
      else assert.ok(Math.abs(beta! - momenta[step]!) <= 1e-15, `step ${step}: ${beta} is not ${momenta[step]}`);
    }
    assert.ok(optimizer.kind === 'adamw');
    const { isMomentumScheduled = false, beta2 } = optimizer;
    assert.deepEqual([isMomentumScheduled, beta2], momenta === undefined ? [false, 0.999] : [true, 0.99]);
  });

const cycle = { cycle_min_lr: 0.001, cycle_max_lr: 0.01 };

test('of an optimizer without betas the momentum stays as it is, and a note says so', async () => {
  const sgd = { optimizer: { type: 'SGD', params: { momentum: 0.9 } } } as const;
  const { schedule, optimizer, notes } = await resolved({ ...sgd, scheduler: { type: 'OneCycle', params: cycle } });
  assert.equal(momentum(schedule, 3), null);
  assert.ok(optimizer.kind === 'sgd' && optimizer.momentum === 0.9);
  assert.match(notes.join(), /^scheduler\.params\.cycle_momentum has no effect/);
});

test('a momentum that would reach 1 within the run is refused', async () => {
  const params = { ...cycle, cycle_first_step_size: 2, decay_step_size: 1, decay_mom_rate: 0.1 };
  const scheduler = { type: 'OneCycle', params } as const;
  assert.ok((await resolved({ scheduler }, 5)).schedule);
  await assert.rejects(
    resolved({ scheduler }, 50),
    /decay_mom_rate: expected a rate that leaves the momentum below 1, got 0\.1/,
  );
});

test('keys of another schedule are told, and a cycle needs its bounds', async () => {
  const misspelt = { type: 'LRRangeTest', params: { lr_range_test_min: 1 } } as never;
  await assert.rejects(resolved({ scheduler: misspelt }), /lr_range_test_min: .*Did you mean "lr_range_test_min_lr"/);
  await assert.rejects(
    resolved({ scheduler: { type: 'OneCycle', params: {} } as never }),
    /params\.cycle_min_lr: expected/,
  );
});
