// Which steps run.profile and the blocks of a ds_config profile, and what their tables say.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DsConfigInput, profileText, readDsConfig, type StepProfile } from '#src/train/index.js';
import { profileOrder, resolveProfile } from '#src/train/profile-settings.js';

const asked = { isAsked: false, isOnGpus: false, totalSteps: 100 };
const resolved = async (config: DsConfigInput, more: Partial<typeof asked> = {}) =>
  resolveProfile(await readDsConfig(config), { ...asked, ...more });

test('run.profile takes five steps behind three, a flops_profiler the one that it names', async () => {
  const steps = async (config: DsConfigInput, isAsked: boolean, from = 0) => {
    const { profile } = await resolved(config, { isAsked });
    return Array.from({ length: 20 }, (_, step) => step).filter(
      (step) => profile !== null && step >= from && profileOrder(profile, step, from, 20) !== null,
    );
  };
  assert.deepEqual(await steps({}, false), []);
  assert.deepEqual(await steps({}, true), [3, 4, 5, 6, 7]);
  assert.deepEqual(await steps({ wall_clock_breakdown: true }, false, 10), [13, 14, 15, 16, 17]);
  assert.deepEqual(await steps({ flops_profiler: { enabled: true, profile_step: 9 } }, true), [8]);
  const { profile } = await resolved({ flops_profiler: { enabled: true, profile_step: 9 } });
  assert.deepEqual(profileOrder(profile!, 8, 0, 20), { steps: 1, isFirst: true, isLast: true });
});

test('the blocks say what the tables hold and where they go', async () => {
  const block = { enabled: true, detailed: false, top_modules: 2, output_file: 'table.txt' };
  const { profile } = await resolved({ flops_profiler: block, comms_logger: { enabled: true } });
  assert.deepEqual(profile, { step: 0, text: { kindsMax: 2, collectives: 'all' }, outputFile: 'table.txt' });
  const some = await resolved({ comms_logger: { enabled: true, prof_all: false, prof_ops: ['all_gather'] } });
  assert.deepEqual(some.profile?.text, { kindsMax: null, collectives: ['all_gather'] });
});

test('what cannot be profiled is told: a step behind the end, and GPUs', async () => {
  const late = await resolved({ flops_profiler: { enabled: true, profile_step: 101 } });
  assert.deepEqual(late, {
    profile: null,
    notes: ['flops_profiler.profile_step has no effect: the run ends with step 100'],
  });
  const config = { flops_profiler: { enabled: true }, comms_logger: { enabled: true }, wall_clock_breakdown: true };
  const { profile, notes } = await resolved(config, { isOnGpus: true });
  assert.equal(profile, null);
  assert.deepEqual(
    notes.map((note) => note.split(' ')[0]),
    ['flops_profiler.enabled', 'comms_logger.enabled', 'wall_clock_breakdown'],
  );
});

const kind = (name: string, seconds: number) =>
  ({ kind: name, count: 1, seconds, flops: 1, bytes: 1, limitShare: 0.5 }) as const;
const PROFILE: StepProfile = {
  steps: 1,
  seconds: 0.01,
  communicationSeconds: 0.004,
  exposedCommunicationSeconds: 0.001,
  offloadSeconds: 0,
  exposedOffloadSeconds: 0,
  limits: { flopsPerSecond: { f32: 1, f16: 1, bf16: 1 }, bytesPerSecond: 1 },
  kinds: [kind('linear', 0.006), kind('adamw', 0.002), kind('add', 0.001)],
  collectives: [
    { kind: 'all_gather', bytes: 4000, ranks: 4, count: 2, seconds: 0.002 },
    { kind: 'all_reduce', bytes: 1000, ranks: 4, count: 1, seconds: 0.001 },
    { kind: 'broadcast', bytes: 1000, ranks: 4, count: 1, seconds: 0.001 },
  ],
};

test('exchanges have throughput and bus bandwidth as in comms_logger', () => {
  const lines = profileText([PROFILE], { collectives: 'all' }).split('\n');
  const rows = lines.map((line) => line.split(/ {2,}/)).filter(([name]) => /^(exchange|all_|broadcast)/.test(name!));
  assert.deepEqual(rows, [
    ['exchange', 'message', 'ranks', 'count', 'ms', 'mean ms', 'throughput', 'bus'],
    ['all_gather', '4.00 kB', '4', '2', '2.00', '1.00', '4.00 MB/s', '3.00 MB/s'],
    ['all_reduce', '1.00 kB', '4', '1', '1.00', '1.00', '2.00 MB/s', '1.50 MB/s'],
    ['broadcast', '1.00 kB', '4', '1', '1.00', '1.00', '1.00 MB/s', '1.00 MB/s'],
  ]);
  assert.doesNotMatch(profileText([PROFILE]), /exchange +message/);
  assert.doesNotMatch(profileText([PROFILE], { collectives: ['all_gather'] }), /all_reduce/);
});

test('a table that is not detailed has the slowest kinds alone, with their shares of the whole', () => {
  const text = profileText([PROFILE], { kindsMax: 1 });
  assert.match(text, /^linear +1 +6\.00 +66\.7 % /m);
  assert.doesNotMatch(text, /adamw/);
});
