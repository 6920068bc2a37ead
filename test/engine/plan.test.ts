// Plans as bytes and as tables: the format of ARCHITECTURE.md, hashes that only depend on the program, errors by model path.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  compileTraining,
  explain,
  GraphBuilder,
  lossGraph,
  meshOf,
  opKinds,
  type Plan,
  ruleOf,
  trainingPasses,
} from '#src/engine/index.js';
import { modelFromConfig } from '#src/models/index.js';
import { native } from '#src/native/index.js';
import { OPTIMIZER, tinyGpt2, tinyLlama } from './models-for-tests.js';

const strategy = { zeroStage: 1, mesh: meshOf({ data: 2 }), rank: 1 } as const;
const compiled = compileTraining({ model: tinyGpt2(), rows: 24, strategy, optimizer: OPTIMIZER });

/** Reads a plan back as the format says. */
function decode({ bytes }: Plan) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const u32 = (at: number) => view.getUint32(at, true);
  const [bufferCount, tensorCount, instructionCount, indexCount, attributeCount, stringBytes] = [
    8, 12, 16, 20, 24, 28,
  ].map(u32) as [number, number, number, number, number, number];
  const buffersAt = 32;
  const tensorsAt = buffersAt + 16 * bufferCount;
  const instructionsAt = tensorsAt + 56 * tensorCount;
  const indicesAt = instructionsAt + 56 * instructionCount;
  const attributesAt = indicesAt + 8 * Math.ceil(indexCount / 2);
  const stringsAt = attributesAt + 8 * attributeCount;
  const text = (at: number, length: number) =>
    Buffer.from(bytes.subarray(stringsAt + at, stringsAt + at + length)).toString();
  const list = (start: number, count: number) =>
    Array.from({ length: count }, (_, i) => u32(indicesAt + 4 * (start + i)));
  return {
    magic: u32(0),
    version: u32(4),
    length: stringsAt + stringBytes,
    buffers: Array.from({ length: bufferCount }, (_, i) => {
      const at = buffersAt + 16 * i;
      return { name: text(u32(at + 8), u32(at + 12)), bytes: Number(view.getBigUint64(at, true)) };
    }),
    tensors: Array.from({ length: tensorCount }, (_, i) => {
      const at = tensorsAt + 56 * i;
      const rank = u32(at + 8);
      const dims = Array.from({ length: rank }, (_, d) => Number(view.getBigUint64(at + 24 + 8 * d, true)));
      return { buffer: u32(at), dtype: u32(at + 4), dims, offset: Number(view.getBigUint64(at + 16, true)) };
    }),
    instructions: Array.from({ length: instructionCount }, (_, i) => {
      const field = (n: number) => u32(instructionsAt + 56 * i + 4 * n);
      return {
        name: text(field(0), field(1)),
        stream: field(2),
        inputs: list(field(3), field(4)),
        outputs: list(field(5), field(6)),
        attributes: Array.from({ length: field(8) }, (_, a) =>
          view.getFloat64(attributesAt + 8 * (field(7) + a), true),
        ),
        waits: list(field(9), field(10)),
        path: text(field(11), field(12)),
      };
    }),
  };
}

test('a plan read back has the ops, tensors and waits of its graph, inside its buffers', () => {
  for (const plan of [compiled.micro, compiled.update]) {
    const read = decode(plan);
    assert.equal(read.magic, 0x504c4c52);
    assert.equal(read.version, 2);
    assert.equal(read.length, plan.bytes.length);
    assert.deepEqual(
      read.buffers,
      plan.buffers.map(({ name, bytes }) => ({ name, bytes })),
    );
    assert.equal(read.instructions.length, plan.graph.ops.length);
    for (const [index, instruction] of read.instructions.entries()) {
      const op = plan.graph.ops[index]!;
      assert.equal(instruction.name, op.kind);
      assert.equal(instruction.path, op.path);
      assert.equal(instruction.stream, plan.schedule.streams[index]);
      assert.deepEqual(instruction.waits, plan.schedule.waits[index]);
      assert.deepEqual(
        instruction.inputs.map((t) => read.tensors[t]!.dims),
        op.inputs.map((id) => plan.graph.tensors[id]!.dims),
      );
      assert.equal(instruction.outputs.length, op.outputs.length);
    }
    for (const { buffer, dims, offset } of read.tensors) {
      const bytes = 4 * dims.reduce((product, dim) => product * dim, 1);
      assert.ok(offset + bytes <= read.buffers[buffer]!.bytes);
    }
  }
});

test('the update program exchanges gradients on the communication stream and waits where bytes are shared', () => {
  const { instructions } = decode(compiled.update);
  const kinds = instructions.map(({ name, stream }) => `${name}:${stream}`);
  for (const kind of [
    'reduce_scatter:1',
    'sum_squares:0',
    'all_reduce:1',
    'clip_factor:0',
    'adamw:0',
    'all_gather:1',
  ]) {
    assert.ok(kinds.includes(kind), kind);
  }
  const gathers = instructions.filter(({ name }) => name === 'all_gather');
  assert.ok(
    gathers.every(
      ({ waits, path }) => instructions[waits[0]!]!.name === 'adamw' && instructions[waits[0]!]!.path === path,
    ),
  );
});

test('equal settings give equal bytes; other rows give another hash', () => {
  const compile = (rows: number) => compileTraining({ model: tinyGpt2(), rows, strategy, optimizer: OPTIMIZER });
  assert.equal(compile(24).micro.hash, compiled.micro.hash);
  assert.equal(compile(24).update.hash, compiled.update.hash);
  assert.notEqual(compile(25).micro.hash, compiled.micro.hash);
});

test('the executor knows every op of the compiler', () => {
  const known = new Set(native().engineInfo().ops);
  assert.deepEqual(
    opKinds().filter((kind) => !known.has(kind) && !ruleOf(kind).isErased),
    [],
  );
});

test('the table of a plan names every op, its model path, its cost and what the arena loses', () => {
  const text = explain(compiled.micro);
  assert.match(text, /linear_cross_entropy_grad +loss +\d/);
  assert.match(text, /transformer\.h\.1\.attn\.c_attn/);
  assert.match(text, /arena: peak .*, at least .*, lost \d+\.\d %/);
  assert.ok(text.includes(compiled.micro.hash));
});

test('the arena of whole training programs is within 2 % of the lower bound', () => {
  const deep = { model_type: 'gpt2', n_layer: 32, n_head: 8, n_embd: 256, n_positions: 512, vocab_size: 5000 };
  for (const model of [tinyGpt2(), tinyLlama(), modelFromConfig(deep)]) {
    const { arena } = compileTraining({ model, rows: 64, strategy, optimizer: OPTIMIZER }).micro;
    assert.ok(arena.peakBytes <= 1.02 * arena.lowerBoundBytes, `${arena.peakBytes} for ${arena.lowerBoundBytes}`);
  }
});

test('fusion leaves no lone residual sum, activation or head in a training program', () => {
  const kinds = trainingPasses(lossGraph(tinyGpt2(), 24)).ops.map(({ kind }) => kind);
  for (const kind of ['add', 'activation', 'linear_cross_entropy']) assert.ok(!kinds.includes(kind), kind);
});

test('a frozen parameter gets no gradient, and what only leads to it is not computed', () => {
  const build = (isFrozen: boolean) => {
    const graph = new GraphBuilder();
    const options = { bucket: 'all', init: { kind: 'zeros' } } as const;
    const x = graph.embedding(
      'e',
      graph.input('ids', 'i32', [4]),
      graph.parameter('table', [5, 8], { ...options, isFrozen }),
    );
    const y = graph.linear('l', x, graph.parameter('w', [8, 8], options));
    const labels = graph.input('labels', 'i32', [4]);
    const weight = graph.parameter('head', [5, 8], { ...options, isFrozen: true });
    const head = { weight, isTransposed: false };
    graph.output('loss', graph.linearCrossEntropy('loss', y, head, labels, graph.input('scale', 'f32', [1])).loss);
    return trainingPasses(graph.build());
  };
  assert.deepEqual([...build(false).gradients.keys()], ['table', 'w']);
  const frozen = build(true);
  assert.deepEqual([...frozen.gradients.keys()], ['w']);
  const kinds = frozen.ops.map(({ kind }) => kind);
  assert.ok(!kinds.includes('embedding_backward') && !kinds.includes('linear_backward_input'));
});

test('operands that do not fit are refused with the model path and both types', () => {
  const graph = new GraphBuilder();
  const x = graph.input('x', 'f32', [4, 8]);
  const w = graph.input('w', 'f32', [3, 9]);
  assert.throws(
    () => graph.linear('layers.3.attn.qkv', x, w),
    /layers\.3\.attn\.qkv \(linear\): expected x to be f32 \[4, 9\], got "f32 \[4, 8\] from x"/,
  );
  assert.throws(() => graph.add('here', x, w), /here \(add\): expected b to be f32 \[4, 8\]/);
});
