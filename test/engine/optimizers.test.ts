// Every optimiser, step by step, against its definition in double precision: matrices that decay, vectors that do not, and a head
// that Muon leaves to AdamW. On each device: the instruction sets of this CPU, and CUDA.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  DeviceBuffers,
  GraphBuilder,
  hasScheduledMomentum,
  initialState,
  layoutFor,
  type OptimizerSettings,
  Program,
  placesOf,
  plan,
  updateProgram,
} from '#src/engine/index.js';
import { seededRandom } from '#src/models/index.js';
import type { NativeDevice } from '#src/native/index.js';
import { DEVICES } from '../support/devices.js';
import { ALONE } from './models-for-tests.js';

const STEPS = 4;
const LR = 0.02;
const SHAPES = [
  { name: 'wide', dims: [90, 121], bucket: 'block 0' },
  { name: 'tall', dims: [70, 33], bucket: 'block 0' },
  { name: 'gain', dims: [77], bucket: 'block 0' },
  { name: 'head', dims: [20, 9], bucket: 'head' },
] as const;
type Shape = (typeof SHAPES)[number];

const COMMON = { weightDecay: 0.1, maxGradientNorm: 1 };
const CASES: readonly OptimizerSettings[] = [
  { kind: 'adamw', ...COMMON, beta1: 0.9, beta2: 0.99, eps: 1e-6 },
  { kind: 'adamw', ...COMMON, beta1: 0.9, beta2: 0.99, eps: 1e-6, isDecayDecoupled: false, hasBiasCorrection: false },
  { kind: 'lion', ...COMMON, beta1: 0.9, beta2: 0.99 },
  { kind: 'adamw', ...COMMON, beta1: 0, beta2: 0.99, eps: 1e-6, isMomentumScheduled: true },
  { kind: 'lion', ...COMMON, beta1: 0, beta2: 0.99, isMomentumScheduled: true },
  { kind: 'adagrad', ...COMMON, eps: 1e-6, lrDecay: 0.1, initialSum: 0.01 },
  { kind: 'sgd', ...COMMON, momentum: 0, dampening: 0, isNesterov: false },
  { kind: 'sgd', ...COMMON, momentum: 0.9, dampening: 0.2, isNesterov: false },
  { kind: 'sgd', ...COMMON, momentum: 0.9, dampening: 0, isNesterov: true },
  {
    kind: 'muon',
    ...COMMON,
    momentum: 0.95,
    isNesterov: true,
    iterations: 5,
    adam: { beta1: 0.9, beta2: 0.95, eps: 1e-6, rateRatio: 0.3 },
  },
  {
    kind: 'muon',
    ...COMMON,
    momentum: 0.8,
    isNesterov: false,
    iterations: 3,
    adam: { beta1: 0.9, beta2: 0.95, eps: 1e-6, rateRatio: 1 },
  },
];

/** Where it is scheduled: from step to step another one. */
const scheduledMomentum = (step: number): number => 0.95 - 0.1 * step;

/** One parameter under one optimiser, as the papers and torch.optim define them. */
class Reference {
  readonly #optimizer: OptimizerSettings;
  readonly #shape: Shape;
  readonly p: number[];
  readonly #first: number[];
  readonly #second: number[];

  constructor(optimizer: OptimizerSettings, shape: Shape, p: readonly number[]) {
    this.#optimizer = optimizer;
    this.#shape = shape;
    this.p = [...p];
    this.#first = p.map(() => initialState(optimizer));
    this.#second = p.map(() => 0);
  }

  step(g: readonly number[], t: number): void {
    const o = this.#optimizer;
    const decay = this.#shape.dims.length === 2 ? o.weightDecay : 0;
    if (o.kind === 'muon' && this.#shape.dims.length === 2 && this.#shape.bucket !== 'head') {
      this.#muon(o, g, decay);
      return;
    }
    for (const [i, gradient] of g.entries()) {
      const p = this.p[i]!;
      const m = this.#first[i]!;
      switch (o.kind) {
        case 'adamw':
        case 'muon': {
          const { beta2, eps } = o.kind === 'muon' ? o.adam : o;
          const beta1 = hasScheduledMomentum(o) ? scheduledMomentum(t) : (o.kind === 'muon' ? o.adam : o).beta1;
          const lr = o.kind === 'muon' ? LR * o.adam.rateRatio : LR;
          const isDecoupled = o.kind === 'muon' || o.isDecayDecoupled !== false;
          const isCorrected = o.kind === 'muon' || o.hasBiasCorrection !== false;
          const own = isDecoupled ? gradient : gradient + decay * p;
          this.#first[i] = beta1 * m + (1 - beta1) * own;
          this.#second[i] = beta2 * this.#second[i]! + (1 - beta2) * own ** 2;
          const mean = this.#first[i]! / (isCorrected ? 1 - beta1 ** t : 1);
          const square = this.#second[i]! / (isCorrected ? 1 - beta2 ** t : 1);
          this.p[i] = p - (isDecoupled ? lr * decay * p : 0) - (lr * mean) / (Math.sqrt(square) + eps);
          break;
        }
        case 'lion': {
          const beta1 = o.isMomentumScheduled ? scheduledMomentum(t) : o.beta1;
          this.p[i] = p - LR * (Math.sign(beta1 * m + (1 - beta1) * gradient) + decay * p);
          this.#first[i] = o.beta2 * m + (1 - o.beta2) * gradient;
          break;
        }
        case 'adagrad': {
          const own = gradient + decay * p;
          this.#first[i] = m + own ** 2;
          this.p[i] = p - ((LR / (1 + (t - 1) * o.lrDecay)) * own) / (Math.sqrt(this.#first[i]!) + o.eps);
          break;
        }
        case 'sgd': {
          const own = gradient + decay * p;
          const momentum = t === 1 ? own : o.momentum * m + (1 - o.dampening) * own;
          this.#first[i] = momentum;
          this.p[i] = p - LR * (o.isNesterov ? own + o.momentum * momentum : momentum);
        }
      }
    }
  }

  #muon(o: Extract<OptimizerSettings, { kind: 'muon' }>, g: readonly number[], decay: number): void {
    const [rows, columns] = this.#shape.dims as readonly [number, number];
    const update = g.map((gradient, i) => {
      const m = o.momentum * this.#first[i]! + (1 - o.momentum) * gradient;
      this.#first[i] = m;
      return o.isNesterov ? (1 - o.momentum) * gradient + o.momentum * m : m;
    });
    const size = Math.sqrt(update.reduce((sum, u) => sum + u * u, 0)) + 1e-7;
    let x = update.map((u) => u / size);
    for (let iteration = 0; iteration < o.iterations; iteration++) {
      // X X^T X is the same from either side; so is its square's product with X.
      const cubic = multiply(multiply(x, transpose(x, rows, columns), rows, columns, rows), x, rows, rows, columns);
      const gram = multiply(transpose(x, rows, columns), x, columns, rows, columns);
      const quintic = multiply(cubic, gram, rows, columns, columns);
      x = x.map((value, i) => 3.4445 * value - 4.775 * cubic[i]! + 2.0315 * quintic[i]!);
    }
    const scale = Math.sqrt(Math.max(1, rows / columns));
    for (const [i, value] of x.entries()) this.p[i] = this.p[i]! * (1 - LR * decay) - LR * scale * value;
  }
}

function multiply(a: readonly number[], b: readonly number[], rows: number, depth: number, columns: number): number[] {
  const result = new Array<number>(rows * columns).fill(0);
  for (let i = 0; i < rows; i++)
    for (let k = 0; k < depth; k++)
      for (let j = 0; j < columns; j++) result[i * columns + j]! += a[i * depth + k]! * b[k * columns + j]!;
  return result;
}

const transpose = (x: readonly number[], rows: number, columns: number): number[] =>
  Array.from({ length: rows * columns }, (_, at) => x[(at % rows) * columns + Math.floor(at / rows)]!);

const numbers = (name: string, count: number, scale: number): number[] => {
  const random = seededRandom(name);
  return Array.from({ length: count }, () => Math.fround(scale * (2 * random() - 1)));
};

const gradientsOf = (step: number): number[][] =>
  SHAPES.map(({ name, dims }) => numbers(`${name} ${step}`, dims[0] * (dims[1] ?? 1), 0.1 * step));

const startOf = ({ name, dims }: Shape): number[] => numbers(name, dims[0] * (dims[1] ?? 1), 0.5);

/** All parameters after each step, by the references. */
function expectedOf(optimizer: OptimizerSettings): number[][][] {
  const references = SHAPES.map((shape) => new Reference(optimizer, shape, startOf(shape)));
  return Array.from({ length: STEPS }, (_, index) => {
    const gradients = gradientsOf(index + 1);
    const norm = Math.sqrt(gradients.flat().reduce((sum, g) => sum + g * g, 0));
    const factor = Math.min(1, optimizer.maxGradientNorm / (norm + 1e-6));
    return references.map((reference, i) => {
      reference.step(
        gradients[i]!.map((g) => g * factor),
        index + 1,
      );
      return [...reference.p];
    });
  });
}

/** Runs the engine's update program step by step and compares all parameters after each. */
async function compare(device: NativeDevice, optimizer: OptimizerSettings, expected: number[][][]): Promise<void> {
  const builder = new GraphBuilder();
  for (const { name, dims, bucket } of SHAPES) builder.parameter(name, dims, { bucket, init: { kind: 'zeros' } });
  const layout = layoutFor(builder.build(), ALONE, optimizer);
  const planned = plan(updateProgram(layout, ALONE, optimizer));
  const buffers = new DeviceBuffers(device);
  buffers.reserve([planned]);
  const program = new Program(device, planned, buffers);
  if (optimizer.kind === 'adagrad') buffers.floats('sum', 0, layout.sliceElements).fill(optimizer.initialSum);
  const places = placesOf(layout);
  const viewOf = (buffer: string, { name }: Shape) => {
    const { offset, length } = places.get(name)!;
    return buffers.floats(buffer, offset, length);
  };
  for (const shape of SHAPES) viewOf('parameters', shape).set(startOf(shape));
  for (const [index, parameters] of expected.entries()) {
    for (const [i, values] of gradientsOf(index + 1).entries()) viewOf('gradients', SHAPES[i]!).set(values);
    program.setScalar('lr', LR);
    program.setScalar('step', index + 1);
    program.setScalar('beta1', scheduledMomentum(index + 1));
    await program.run();
    for (const [i, shape] of SHAPES.entries()) {
      const found = viewOf('parameters', shape);
      const worst = Math.max(...parameters[i]!.map((value, at) => Math.abs(found[at]! - value)));
      assert.ok(worst < 2e-5, `${shape.name} is off by ${worst} after step ${index + 1}`);
    }
  }
  program.dispose();
  buffers.dispose();
}

for (const [index, optimizer] of CASES.entries()) {
  test(`${optimizer.kind} (case ${index}) steps as its definition says on every device`, async () => {
    const expected = expectedOf(optimizer);
    for (const { open } of DEVICES) {
      const device = open();
      try {
        await compare(device, optimizer, expected);
      } finally {
        device.dispose();
      }
    }
  });
}
