// A profile of steps: seconds, arithmetic and limits of every kind of instruction, and what of the exchanges others do not hide.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StepProfiler } from '#src/engine/device/profile.js';
import { compileTraining, GraphBuilder, type Offload, plan, TrainStep } from '#src/engine/index.js';
import { initialise } from '#src/models/index.js';
import { openDevice } from './device-for-tests.js';
import { ALONE, labelled, OPTIMIZER, randomBatch, tinyLlama } from './models-for-tests.js';

const LIMITS = { flopsPerSecond: { f32: 1000, f16: 1000, bf16: 2000 }, bytesPerSecond: 1000 };

/** relu(x) is summed over all workers, while relu(y) and relu(relu(y)) need no exchange; then both are added. */
function exchange() {
  const builder = new GraphBuilder();
  const [x, y] = ['x', 'y'].map((name) => builder.input(name, 'f32', [10]));
  const [made] = builder.op('activation', 'a', [x!], { kind: 3 });
  const [sum] = builder.op('all_reduce', 'sum', [made!], { group: 0, op: 0 });
  const [once] = builder.op('activation', 'b', [y!], { kind: 3 });
  const [twice] = builder.op('activation', 'c', [once!], { kind: 3 });
  builder.op('add', 'd', [sum!, twice!]);
  const places = new Map([x!, y!].map(({ id }, index) => [id, { buffer: 'inputs', offsetBytes: 64 * index }]));
  return plan({ graph: builder.build(), places, buffers: new Map([['inputs', 128]]) });
}

test('an exchange is exposed for as long as no other instruction runs', () => {
  const program = exchange();
  const kinds = program.graph.ops.map(({ kind }) => kind);
  for (const [exchangeSeconds, exposed] of [
    [1, 0],
    [5, 3],
  ] as const) {
    const profiler = new StepProfiler((group) => group + 2);
    const seconds = Float64Array.from(kinds, (kind) => (kind === 'all_reduce' ? exchangeSeconds : 1));
    for (let run = 0; run < 2; run++) profiler.add(program, seconds);
    const profile = profiler.summary(2, LIMITS);
    assert.equal(profile.seconds, 4 + exposed);
    assert.equal(profile.communicationSeconds, exchangeSeconds);
    assert.equal(profile.exposedCommunicationSeconds, exposed);
    const sum = { kind: 'all_reduce', bytes: 40, ranks: 2, count: 1, seconds: exchangeSeconds };
    assert.deepEqual(profile.collectives, [sum]);
  }
});

test('what the host steps beside a device is offload, and hidden while the device computes; a device that is the host makes it itself', () => {
  const builder = new GraphBuilder();
  const [here, there] = ['here', 'there'].map((name) => builder.input(name, 'f32', [10]));
  const [stepped] = builder.op('activation', 'there', [there!], { kind: 3 });
  const [used] = builder.op('activation', 'here', [here!], { kind: 3 });
  const places = new Map([
    [here!.id, { buffer: 'inputs', offsetBytes: 0 }],
    [used!.id, { buffer: 'inputs', offsetBytes: 64 }],
    [there!.id, { buffer: 'inputs@host', offsetBytes: 0 }],
    [stepped!.id, { buffer: 'inputs@host', offsetBytes: 64 }],
  ]);
  const buffers = new Map([
    ['inputs', 128],
    ['inputs@host', 128],
  ]);
  const program = plan({ graph: builder.build(), places, buffers, host: new Set(['inputs@host']) });
  const figures = (isHost: boolean) => {
    const profiler = new StepProfiler(() => 1, isHost);
    profiler.add(program, Float64Array.of(5, 3));
    const { seconds, offloadSeconds, exposedOffloadSeconds } = profiler.summary(1, LIMITS);
    return { seconds, offloadSeconds, exposedOffloadSeconds };
  };
  assert.deepEqual(figures(false), { seconds: 5, offloadSeconds: 5, exposedOffloadSeconds: 2 });
  assert.deepEqual(figures(true), { seconds: 8, offloadSeconds: 0, exposedOffloadSeconds: 0 });
});

test('kinds are sorted by time, with arithmetic, traffic and the share of the limit', () => {
  const program = exchange();
  const profiler = new StepProfiler();
  profiler.add(
    program,
    Float64Array.from(program.graph.ops, ({ kind }) => (kind === 'add' ? 4 : 1)),
  );
  const { kinds } = profiler.summary(1, LIMITS);
  const add = { kind: 'add', count: 1, seconds: 4, flops: 10, bytes: 120, limitShare: 0.03 };
  assert.deepEqual(kinds[0], add);
  const activation = kinds.find(({ kind }) => kind === 'activation')!;
  assert.equal(activation.count, 3);
  assert.ok(Math.abs(activation.limitShare! - (3 * 0.1) / 3) < 1e-12, `${activation.limitShare}`); // 100 operations each
  assert.equal(kinds.find(({ kind }) => kind === 'all_reduce')!.limitShare, null);
});

test('profiled steps are the steps themselves, bit by bit', async () => {
  using opened = openDevice();
  const batch = randomBatch([16, 10], 32, 37, 'profile');
  const run = async (isProfiled: boolean, offload: Offload = {}) => {
    const settings = { model: tinyLlama(), rows: 32, strategy: ALONE, optimizer: OPTIMIZER, offload };
    await using step = TrainStep.create({ ...settings, device: opened.device });
    initialise(settings.model, 1, step.parameters);
    if (isProfiled) step.startProfile();
    const losses: number[] = [];
    for (let n = 1; n <= 3; n++) {
      losses.push((await step.micro(batch, { scale: 1 / labelled(batch), isFirst: true })).loss);
      losses.push((await step.update({ lr: 1e-2, step: n })).gradientNorm);
    }
    return {
      losses,
      profile: isProfiled ? await step.endProfile(3, 2) : null,
      graph: compileTraining(settings).micro.graph,
    };
  };
  const plain = await run(false);
  const { losses, profile, graph } = await run(true);
  assert.deepEqual(losses, plain.losses);
  const products = profile!.kinds.find(({ kind }) => kind === 'linear')!;
  assert.equal(products.count, graph.ops.filter(({ kind }) => kind === 'linear').length);
  assert.ok(products.seconds > 0 && products.limitShare! > 0);
  assert.ok(profile!.kinds.some(({ kind }) => kind === 'adamw'));
  assert.equal(profile!.exposedCommunicationSeconds, 0);
  assert.equal(profile!.offloadSeconds, 0);
  const moved = await run(true, { optimizer: { device: 'cpu', tileElements: 256 } });
  assert.deepEqual(moved.losses, plain.losses);
  // What waits for copies does not wait for exchanges: there are none.
  assert.equal(moved.profile!.exposedCommunicationSeconds, 0);
  assert.ok(moved.profile!.offloadSeconds > 0);
  assert.ok(moved.profile!.exposedOffloadSeconds <= moved.profile!.offloadSeconds);
  assert.ok(moved.profile!.kinds.some(({ kind }) => kind === 'copy'));
  const { flopsPerSecond, bytesPerSecond } = profile!.limits;
  assert.ok(flopsPerSecond.f32 > 1e9 && flopsPerSecond.bf16 > 1e9 && bytesPerSecond > 1e8);
});
