// The planner on random programs over two streams: whatever order the streams run in, every op reads what was written for it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { byteLength, GraphBuilder, type Place, plan, ruleOf, type Tensor } from '#src/engine/index.js';

/** What an op does, as small numbers: which earlier tensors it reads, and its kind. */
const step = fc.record({
  kind: fc.constantFrom('add', 'map', 'reduce', 'sum'),
  a: fc.nat(),
  b: fc.nat(),
});

function randomProgram(steps: readonly { kind: string; a: number; b: number }[]) {
  const builder = new GraphBuilder();
  const shared = new Map<number, Place>();
  const live: Tensor[] = [];
  for (let width = 1; width <= 3; width++) {
    const input = builder.input(`in${width}`, 'f32', [width * 16]);
    shared.set(input.id, { buffer: 'inputs', offsetBytes: width * 4096 });
    live.push(builder.op('activation', `start${width}`, [input], { kind: 3 })[0]!);
  }
  for (const [index, { kind, a, b }] of steps.entries()) {
    const path = `op${index}`;
    const first = live[a % live.length]!;
    const alike = live.filter((tensor) => tensor.dims[0] === first.dims[0]);
    const second = alike[b % alike.length]!;
    if (kind === 'reduce') {
      // An update in place: nobody may read the old value any more.
      live.splice(live.indexOf(first), 1);
      live.push(builder.op('all_reduce', path, [first], { group: 0, op: 0 })[0]!);
    } else if (kind === 'sum') {
      live.push(builder.op('sum_squares', path, [first], { accumulate: 0 })[0]!);
    } else if (kind === 'add') {
      live.push(builder.op('add', path, [first, second])[0]!);
    } else {
      live.push(builder.op('activation', path, [first], { kind: 3 })[0]!);
    }
  }
  return plan({ graph: builder.build(), places: shared, buffers: new Map([['inputs', 65_536]]) });
}

test('no op reads bytes that another op has overwritten, in any order that the waits allow', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 60 }), fc.infiniteStream(fc.boolean()), (steps, coin) => {
      const { graph, places, schedule } = randomProgram(steps);
      const bytes = new Map<string, number>(); // which tensor's value each 64 bytes hold
      const cells = (id: number) => {
        const { buffer, offsetBytes } = places.get(id)!;
        const count = Math.ceil(byteLength(graph.tensors[id]!) / 64);
        return Array.from({ length: count }, (_, i) => `${buffer}+${offsetBytes / 64 + i}`);
      };
      const done = new Set<number>();
      const queues = [0, 1].map((stream) => graph.ops.flatMap((_, i) => (schedule.streams[i] === stream ? [i] : [])));
      while (queues.some((queue) => queue.length > 0)) {
        const ready = queues.filter(
          (queue) => queue.length > 0 && schedule.waits[queue[0]!]!.every((w) => done.has(w)),
        );
        assert.ok(ready.length > 0, 'the streams wait for each other');
        const queue = ready.length > 1 && coin.next().value ? ready[1]! : ready[0]!;
        const index = queue.shift()!;
        const op = graph.ops[index]!;
        for (const id of op.inputs) {
          for (const cell of cells(id)) {
            if (!cell.startsWith('inputs')) assert.equal(bytes.get(cell), id, `#${index} ${op.kind} reads ${id}`);
          }
        }
        for (const id of op.outputs) for (const cell of cells(id)) bytes.set(cell, id);
        done.add(index);
      }
    }),
    { numRuns: 300 },
  );
});

test('the arena is never smaller than what lives at the same time', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 60 }), (steps) => {
      const { peakBytes, lowerBoundBytes } = randomProgram(steps).arena;
      assert.ok(peakBytes >= lowerBoundBytes);
    }),
  );
});

test('an op that works in place takes the bytes of an input that dies', () => {
  const builder = new GraphBuilder();
  const input = builder.input('x', 'f32', [16]);
  const a = builder.op('activation', 'a', [input], { kind: 3 })[0]!;
  const b = builder.op('activation', 'b', [a], { kind: 3 })[0]!;
  const c = builder.op('add', 'c', [b, a])[0]!;
  const places = new Map([[input.id, { buffer: 'inputs', offsetBytes: 0 }]]);
  const planned = plan({ graph: builder.build(), places, buffers: new Map([['inputs', 64]]) });
  assert.notDeepEqual(planned.places.get(b.id), planned.places.get(a.id), 'a is read again after b is written');
  assert.deepEqual(planned.places.get(c.id), planned.places.get(b.id));
  assert.equal(planned.arena.peakBytes, 128);
  assert.equal(ruleOf('add').inPlace?.length, 1);
});
