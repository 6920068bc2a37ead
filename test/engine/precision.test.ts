// Storage in 16 bits: what the pass types how, and the update that steps f32 masters, rounds them, and leaves everything alone
// when the gradient is not finite.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  compileTraining,
  DeviceBuffers,
  type FloatType,
  layOut,
  layoutOf,
  narrow,
  type OptimizerSettings,
  ParameterStore,
  Program,
  plan,
  StateMemory,
  slicesOf,
  stateBuffers,
  updateProgram,
  widen,
} from '#src/engine/index.js';
import { seededRandom } from '#src/models/index.js';
import { openDevice } from './device-for-tests.js';
import { ALONE, OPTIMIZER, tinyGpt2, tinyLlama } from './models-for-tests.js';

const rounded = (values: Float32Array, dtype: Exclude<FloatType, 'f32'>): Float32Array =>
  widen(new Uint8Array(narrow(values, dtype).buffer), dtype);

test('activations and parameters take the storage type; statistics, losses and gradients of parameters stay f32', () => {
  for (const model of [tinyGpt2(), tinyLlama()]) {
    const settings = { model, rows: 16, strategy: ALONE, optimizer: OPTIMIZER, dtype: 'bf16' } as const;
    const { micro, layout, memory } = compileTraining(settings);
    const { graph } = micro;
    const typesOf = (kind: string, outputs: readonly number[]) =>
      new Set(
        graph.ops
          .filter((op) => op.kind === kind)
          .flatMap((op) => outputs.map((index) => graph.tensors[op.outputs[index]!]!.dtype)),
      );
    assert.deepEqual(typesOf('attention', [0]), new Set(['bf16']));
    assert.deepEqual(typesOf('attention', [1]), new Set(['f32']));
    assert.deepEqual(typesOf('linear_backward_input', [0]), new Set(['bf16']));
    assert.deepEqual(typesOf('linear_backward_weight', [0]), new Set(['f32']));
    assert.deepEqual(typesOf('linear_cross_entropy_grad', [0, 1, 3]), new Set(['f32']));
    for (const { tensor } of graph.parameters.values()) assert.equal(graph.tensors[tensor]!.dtype, 'bf16');
    assert.equal(memory.parameterBytes, 2 * layout.parameterElements);
    assert.equal(memory.gradientBytes, 4 * layout.elements);
    assert.equal(memory.optimizerBytes, 12 * layout.sliceElements); // masters and two averages
    const exact = compileTraining({ ...settings, dtype: 'f32' }).memory;
    assert.equal(exact.parameterBytes, 4 * layout.parameterElements);
    assert.ok(memory.activationBytes < 0.75 * exact.activationBytes);
  }
});

test('a store rounds what it is given; masters keep it exactly', () => {
  using opened = openDevice();
  for (const dtype of ['bf16', 'f16'] as const) {
    const layout = layoutOf(tinyLlama(), dtype);
    using store = new ParameterStore(opened.device, layout);
    const [slice] = slicesOf(layout, 0);
    const masters = new Map<string, Float32Array>();
    store.keepMasters({
      slices: new Map([[slice!.name, slice!]]),
      writeMaster: ({ name }, values) => masters.set(name, values.slice()),
      masterTarget: () => null,
    });
    const random = seededRandom(dtype);
    const values = Float32Array.from({ length: slice!.length }, () => random() - 0.5);
    store.load(slice!.name, values);
    assert.deepEqual(store.read(slice!.name), rounded(values, dtype));
    assert.deepEqual(masters.get(slice!.name), values);
    assert.equal(store.takesFile(slice!.name), false);
  }
});

/** The update of a job whose only parameter is a matrix of `length` elements. */
class Update implements Disposable {
  readonly buffers: DeviceBuffers;
  readonly store: ParameterStore;
  readonly program: Program;
  readonly length: number;

  readonly #states: readonly string[];

  constructor(
    device: ConstructorParameters<typeof DeviceBuffers>[0],
    length: number,
    dtype: FloatType,
    optimizer: OptimizerSettings = { ...OPTIMIZER, maxGradientNorm: 1 },
  ) {
    const init = { kind: 'zeros' } as const;
    const layout = layOut(
      [{ name: 'p', tensor: 0, dims: [length / 20, 20], bucket: 'all', init, isFrozen: false }],
      1,
      { isWhole: () => optimizer.kind === 'muon', dtype },
    );
    const planned = plan(updateProgram(layout, ALONE, optimizer));
    this.#states = stateBuffers(optimizer, layout.buckets[0]!);
    this.length = length;
    this.store = new ParameterStore(device, layout);
    this.buffers = new DeviceBuffers(device);
    this.store.lendTo(this.buffers);
    this.buffers.reserve([planned]);
    if (layout.hasMasters) this.store.keepMasters(new StateMemory(this.buffers, layout, slicesOf(layout, 0)));
    this.program = new Program(device, planned, this.buffers);
  }

  /** Steps once; returns the norm. */
  async step(gradient: Float32Array, number: number, lossScale = 1): Promise<number> {
    this.buffers.floats('gradients', 0, this.length).set(gradient.map((value) => value * lossScale));
    this.program.setScalar('lr', 1e-3);
    this.program.setScalar('step', number);
    this.program.setScalar('lossScale', lossScale);
    await this.program.run();
    return this.program.floats('gradientNorm')[0]!;
  }

  /** Masters and averages; f32 parameters are their own masters. */
  state(): readonly Float32Array[] {
    const names = [this.store.layout.dtype === 'f32' ? 'parameters' : 'master', ...this.#states];
    return names.map((name) => this.buffers.floats(name, 0, this.length).slice());
  }

  [Symbol.dispose](): void {
    this.program.dispose();
    this.buffers.dispose();
    this.store[Symbol.dispose]();
  }
}

const numbers = (length: number, seed: string): Float32Array => {
  const random = seededRandom(seed);
  return Float32Array.from({ length }, () => random() - 0.5);
};

const COMMON = { weightDecay: 0.1, maxGradientNorm: 1 };
const OPTIMIZERS: readonly OptimizerSettings[] = [
  { ...OPTIMIZER, maxGradientNorm: 1 },
  { kind: 'lion', ...COMMON, beta1: 0.9, beta2: 0.99 },
  { kind: 'adagrad', ...COMMON, eps: 1e-6, lrDecay: 0.1, initialSum: 0 },
  { kind: 'sgd', ...COMMON, momentum: 0, dampening: 0, isNesterov: false },
  { kind: 'sgd', ...COMMON, momentum: 0.9, dampening: 0, isNesterov: true },
  {
    kind: 'muon',
    ...COMMON,
    momentum: 0.95,
    isNesterov: true,
    iterations: 5,
    adam: { beta1: 0.9, beta2: 0.95, eps: 1e-6, rateRatio: 0.3 },
  },
];

for (const [index, optimizer] of OPTIMIZERS.entries()) {
  test(`${optimizer.kind} (case ${index}): masters step as f32 parameters do, bit by bit, and are rounded in the same pass; a loss scale cancels`, async () => {
    using opened = openDevice();
    const length = 1000;
    for (const dtype of ['bf16', 'f16'] as const) {
      using exact = new Update(opened.device, length, 'f32', optimizer);
      using narrower = new Update(opened.device, length, dtype, optimizer);
      assert.ok(!narrower.program.plan.graph.ops.some(({ kind }) => kind === 'cast'));
      for (const update of [exact, narrower]) update.store.load('p', numbers(length, 'p'));
      for (let step = 1; step <= 3; step++) {
        const gradient = numbers(length, `g${step}`);
        const lossScale = dtype === 'f16' ? 1024 : 1; // a power of two: nothing is rounded
        const norm = await narrower.step(gradient, step, lossScale);
        assert.equal(norm, await exact.step(gradient, step));
        assert.deepEqual(narrower.state(), exact.state());
        assert.deepEqual(narrower.store.read('p'), rounded(narrower.state()[0]!, dtype));
      }
    }
  });
}

test('a gradient that is not finite changes nothing', async () => {
  using opened = openDevice();
  const length = 100;
  for (const dtype of ['f32', 'bf16', 'f16'] as const) {
    using update = new Update(opened.device, length, dtype);
    update.store.load('p', numbers(length, 'p'));
    await update.step(numbers(length, 'g'), 1, dtype === 'f16' ? 8 : 1);
    const before = [...update.state(), update.store.read('p')];
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const gradient = numbers(length, 'h');
      gradient[77] = bad;
      const norm = await update.step(gradient, 2, dtype === 'f16' ? 8 : 1);
      assert.ok(!Number.isFinite(norm));
      assert.deepEqual([...update.state(), update.store.read('p')], before);
    }
  }
});
