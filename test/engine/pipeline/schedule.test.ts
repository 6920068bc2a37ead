// Schedules of pipelines: every micro-batch passes every part once each way, in an order in which nobody waits for ever; what is
// kept and what is idle are those of the formulas.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bubbleShare, type PipelineShape, readerOf, replay, setCount, turnsOf } from '#src/engine/index.js';

const shapes = fc
  .record({
    stages: fc.integer({ min: 1, max: 6 }),
    chunks: fc.integer({ min: 1, max: 4 }),
    groups: fc.integer({ min: 1, max: 5 }),
    extra: fc.integer({ min: 0, max: 4 }),
  })
  .map(({ stages, chunks, groups, extra }): PipelineShape => {
    // Only plain 1F1B takes any number of micro-batches.
    return { stages, chunks, micros: chunks === 1 ? groups + extra : groups * stages };
  });

const show = (shape: PipelineShape, stage: number) =>
  turnsOf(shape, stage)
    .map(({ phase, chunk, micro }) => `${phase[0]}${shape.chunks === 1 ? '' : 'abcd'[chunk]}${micro}`)
    .join(' ');

test('1F1B runs ahead by the stages behind, then alternates', () => {
  const shape = { stages: 4, chunks: 1, micros: 6 };
  assert.equal(show(shape, 0), 'f0 f1 f2 f3 b0 f4 b1 f5 b2 b3 b4 b5');
  assert.equal(show(shape, 2), 'f0 f1 b0 f2 b1 f3 b2 f4 b3 f5 b4 b5');
  assert.equal(show(shape, 3), 'f0 b0 f1 b1 f2 b2 f3 b3 f4 b4 f5 b5');
});

test('interleaved 1F1B takes groups of micro-batches through chunk after chunk', () => {
  const shape = { stages: 2, chunks: 2, micros: 4 };
  assert.equal(show(shape, 0), 'fa0 fa1 fb0 fb1 fa2 bb0 fa3 bb1 fb2 ba0 fb3 ba1 bb2 bb3 ba2 ba3');
  assert.equal(show(shape, 1), 'fa0 fa1 fb0 bb0 fb1 bb1 fa2 ba0 fa3 ba1 fb2 bb2 fb3 bb3 ba2 ba3');
});

test('every part runs forward and then backward once for each micro-batch, and holds its set in between', () => {
  fc.assert(
    fc.property(shapes, (shape) => {
      for (let stage = 0; stage < shape.stages; stage++) {
        const held = new Map<string, number>();
        const seen = new Set<string>();
        for (const { phase, chunk, micro, set } of turnsOf(shape, stage)) {
          assert.ok(!seen.has(`${phase} ${chunk} ${micro}`));
          seen.add(`${phase} ${chunk} ${micro}`);
          if (phase === 'forward') {
            assert.ok(!held.has(`${chunk} ${set}`));
            held.set(`${chunk} ${set}`, micro);
          } else {
            assert.equal(held.get(`${chunk} ${set}`), micro);
            held.delete(`${chunk} ${set}`);
          }
        }
        assert.equal(seen.size, 2 * shape.chunks * shape.micros);
      }
    }),
  );
});

test('1F1B keeps at most p - s micro-batches on stage s', () => {
  fc.assert(
    fc.property(shapes, (shape) => {
      fc.pre(shape.chunks === 1);
      for (let stage = 0; stage < shape.stages; stage++)
        assert.equal(setCount(turnsOf(shape, stage), 0), Math.min(shape.stages - stage, shape.micros));
    }),
  );
});

test('no schedule waits for itself, and its idle share is (p - 1) / (v m + p - 1) whatever a backward takes', () => {
  fc.assert(
    fc.property(shapes, fc.integer({ min: 1, max: 3 }), (shape, backward) => {
      fc.pre(shape.micros >= shape.stages);
      for (const idle of replay(shape, { forward: 1, backward }).idleShares)
        assert.ok(Math.abs(idle - bubbleShare(shape)) < 1e-12, `${idle} instead of ${bubbleShare(shape)}`);
    }),
  );
});

test('a stage reads messages of a kind in the order in which its neighbour makes them', () => {
  fc.assert(
    fc.property(shapes, (shape) => {
      for (let stage = 0; stage < shape.stages; stage++) {
        const sent = { forward: [] as string[], backward: [] as string[] };
        const to = new Set<number>();
        for (const turn of turnsOf(shape, stage)) {
          const reader = readerOf(shape, stage, turn);
          if (!reader) continue;
          if (turn.phase === 'forward') to.add(reader.stage);
          sent[turn.phase].push(`${reader.chunk} ${turn.micro}`);
        }
        for (const phase of ['forward', 'backward'] as const) {
          const reader = (stage + (phase === 'forward' ? 1 : shape.stages - 1)) % shape.stages;
          const read = turnsOf(shape, reader)
            .map((turn) => ({ turn, key: `${turn.chunk} ${turn.micro}` }))
            .filter(({ turn, key }) => turn.phase === phase && sent[phase].includes(key))
            .map(({ key }) => key);
          assert.deepEqual(read, sent[phase]);
        }
      }
    }),
  );
});

test('micro-batches that interleaved chunks cannot share are refused with the nearest numbers that they can', () => {
  assert.throws(() => turnsOf({ stages: 4, chunks: 2, micros: 6 }, 0), /multiple of 4 stages.*Accumulate 4 or 8/s);
});
