// Where the ops of offload run: what touches memory of the host alone is on a stream of its own, so that a device goes on meanwhile.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileTraining, meshOf, type OptimizerOffload, type Plan, type ZeroStage } from '#src/engine/index.js';
import { OPTIMIZER, tinyLlama } from './models-for-tests.js';
import { ROWS } from './offloaded-job.js';

const [COMPUTE, HOST] = [0, 4];

const compiled = (zeroStage: ZeroStage, ranks: number, optimizer: OptimizerOffload) =>
  compileTraining({
    model: tinyLlama(),
    rows: ROWS,
    strategy: { zeroStage, mesh: meshOf({ data: ranks }), rank: 0 },
    optimizer: OPTIMIZER,
    dtype: 'bf16',
    offload: { optimizer },
  });

/** By op: its stream, and whether an operand of it lies on the host. */
function sides({ graph, places, buffers, schedule }: Plan) {
  const onHost = new Set(buffers.filter(({ isOnHost }) => isOnHost).map(({ name }) => name));
  return graph.ops.map(({ kind, inputs, outputs }, index) => {
    const touched = [...inputs, ...outputs].map((id) => onHost.has(places.get(id)!.buffer));
    return {
      index,
      kind,
      stream: schedule.streams[index]!,
      some: touched.includes(true),
      all: !touched.includes(false),
    };
  });
}

test('kernels over memory of the host are on its stream, all others touch none of it', () => {
  for (const [stage, ranks] of [
    [1, 1],
    [2, 1],
    [2, 2],
    [3, 2],
  ] as const)
    for (const ratio of [0.5, 1]) {
      const { micro, update, clear } = compiled(stage, ranks, { device: 'cpu', ratio, tileElements: 500 });
      for (const plan of clear ? [micro, update, clear] : [micro, update])
        for (const { kind, stream, some, all } of sides(plan)) {
          if (stream === COMPUTE) assert.ok(!some, `${kind} of the device touches memory of the host`);
          if (stream === HOST) assert.ok(all, `${kind} of the host touches memory of the device`);
        }
      assert.ok(sides(update).some(({ kind, stream }) => kind === 'adamw' && stream === HOST));
    }
});

test('what stays on the device is stepped beside what has left it, and a backward does not wait for the sums of its last bucket', () => {
  const { update } = compiled(1, 1, { device: 'cpu', ratio: 0.5, tileElements: 500 });
  const steps = (stream: number) => sides(update).filter((op) => op.kind === 'adamw' && op.stream === stream);
  const [here, there] = [steps(COMPUTE), steps(HOST)];
  assert.ok(here.length > 0 && there.length > 0);
  for (const own of here)
    for (const other of there)
      assert.ok(!update.schedule.isBefore(other.index, own.index) && !update.schedule.isBefore(own.index, other.index));

  const { micro } = compiled(2, 2, { device: 'cpu', tileElements: 500 });
  const ops = sides(micro);
  const sums = ops.filter(({ stream }) => stream === HOST);
  assert.ok(sums.length > 0);
  const isFree = ({ index }: (typeof ops)[number]) => {
    const next = ops.find((op) => op.index > index && op.stream === COMPUTE);
    return next !== undefined && !micro.schedule.isBefore(index, next.index);
  };
  assert.ok(sums.some(isFree));
});
