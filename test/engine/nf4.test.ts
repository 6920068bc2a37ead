// Weights in 4 bits: what quantising keeps, that the layers over them are those over the values they stand for, on every
// device, and what QLoRA costs and trains.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { compileTraining, dequantiseNf4, GraphBuilder, nf4Bytes, quantiseNf4, TrainStep } from '#src/engine/index.js';
import {
  adapterFromConfig,
  adapterParameters,
  initialise,
  initialiseAdapter,
  modelFromConfig,
  seededRandom,
  withAdapter,
  withNf4,
} from '#src/models/index.js';
import { DEVICES } from '../support/devices.js';
import { GraphRun, openDevice } from './device-for-tests.js';
import { ALONE, labelled, OPTIMIZER, randomBatch, tinyGpt2, tinyLlama } from './models-for-tests.js';

function numbers(name: string, count: number): Float32Array {
  const random = seededRandom(name);
  return Float32Array.from({ length: count }, () => (2 * random() - 1) * random());
}

function rounded(values: Float32Array, isDouble: boolean): Float32Array {
  const memory = new Uint8Array(nf4Bytes(values.length, { isDouble }));
  quantiseNf4(values, memory, { isDouble });
  return dequantiseNf4(memory, values.length, { isDouble });
}

test('values are off by less than half the widest gap of the table, and what has been rounded stays as it is', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 40_000 }), fc.boolean(), (count, isDouble) => {
      const values = numbers(`${count}`, count);
      const found = rounded(values, isDouble);
      // A scale in 8 bits is off by a share of the widest of its 256, however small it is itself.
      const scaleError = isDouble ? 0.02 * values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) : 0;
      for (let block = 0; block * 64 < count; block++) {
        const part = values.subarray(block * 64, (block + 1) * 64);
        const largest = part.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
        for (const [i, value] of part.entries())
          assert.ok(Math.abs(found[block * 64 + i]! - value) <= 0.1521 * largest + scaleError + 1e-7);
      }
      if (!isDouble) assert.deepEqual(rounded(found, false), found);
    }),
    { numRuns: 30 },
  );
  assert.ok(Math.abs((8 * nf4Bytes(4096 * 4096, { isDouble: true })) / 4096 ** 2 - 4.127) < 1e-3);
  assert.equal((8 * nf4Bytes(4096 * 4096, { isDouble: false })) / 4096 ** 2, 4.5);
});

test('the numbers of the table, the packing and the scales are those of the paper', () => {
  const values = new Float32Array(64);
  values.set([2, -2, 0, 2 * 0.7229568362236023, -2 * 0.6961928009986877]);
  const memory = new Uint8Array(nf4Bytes(64, { isDouble: false }));
  quantiseNf4(values, memory, { isDouble: false });
  assert.deepEqual([...memory.subarray(0, 4)], [0xf0, 0x7e, 0x17, 0x77]);
  assert.equal(new Float32Array(memory.buffer, 32, 1)[0], 2);
});

for (const [rows, inputs, outputs] of [
  [3, 64, 5],
  [7, 33, 50],
  [70, 130, 401],
  [9, 2100, 700], // several tiles of rows
] as const) {
  for (const transposed of [0, 1]) {
    for (const isDouble of [false, true]) {
      test(`a layer of ${inputs} x ${outputs} over ${rows} rows, transposed ${transposed}, double ${isDouble}: the bits of a plain layer`, async () => {
        const dims = transposed ? [inputs, outputs] : [outputs, inputs];
        const weights = numbers('w', inputs * outputs);
        const plain = rounded(weights, isDouble);
        const [x, dy, bias] = [numbers('x', rows * inputs), numbers('dy', rows * outputs), numbers('b', outputs)];
        for (const { name: where, open } of DEVICES) {
          const device = open();
          try {
            const options = { bucket: 'all', init: { kind: 'zeros' }, isFrozen: true } as const;
            const graph = new GraphBuilder();
            const tx = graph.input('x', 'f32', [rows, inputs]);
            const tdy = graph.input('dy', 'f32', [rows, outputs]);
            const tb = graph.input('b', 'f32', [outputs]);
            const full = graph.parameter('full', dims, options);
            const packed = graph.parameter('packed', dims, { ...options, nf4: { isDouble } });
            const doubleQuant = isDouble ? 1 : 0;
            graph.output('y', graph.linear('full', tx, full, tb, transposed === 1));
            graph.output(
              'y4',
              graph.op('linear_nf4', 'packed', [tx, packed, tb], { transposed, outputs, doubleQuant })[0]!,
            );
            graph.output('dx', graph.op('linear_backward_input', 'full', [tdy, full], { transposed })[0]!);
            const rest = { transposed, inputs, doubleQuant };
            graph.output('dx4', graph.op('linear_nf4_backward_input', 'packed', [tdy, packed], rest)[0]!);
            using run = new GraphRun(device, graph.build());
            run.store.load('full', plain);
            run.store.load('packed', weights);
            assert.deepEqual(run.store.read('packed'), plain);
            for (const [name, values] of [
              ['x', x],
              ['dy', dy],
              ['b', bias],
            ] as const)
              run.program.floats(name).set(values);
            await run.program.run();
            for (const name of ['y', 'dx'])
              assert.deepEqual(run.program.floats(`${name}4`), run.program.floats(name), `${name} on ${where}`);
          } finally {
            device.dispose();
          }
        }
      });
    }
  }
}

const ROWS = 24;
const CONFIG = { r: 4, lora_alpha: 8, target_modules: 'all-linear' };
const BATCH = randomBatch([12, 9], ROWS, 37, 'qlora');

for (const [name, make, dtype, tolerance] of [
  ['gpt2', tinyGpt2, 'f32', 1e-5],
  ['llama', tinyLlama, 'f32', 1e-5],
  // A plain layer rounds once, behind the activation that is fused with it.
  ['gpt2', tinyGpt2, 'bf16', 2e-2],
  ['llama', tinyLlama, 'bf16', 2e-2],
  ['llama', tinyLlama, 'f16', 3e-3],
] as const) {
  test(`${name} in ${dtype}: over a base in 4 bits an adapter trains as over the values that the base stands for`, async () => {
    const isDouble = true;
    const train = async (isPacked: boolean) => {
      using opened = openDevice();
      const plain = withAdapter(make(), adapterFromConfig(CONFIG));
      const packed = withNf4(plain, { isDouble });
      const model = isPacked ? packed : plain;
      const job = { model, rows: ROWS, strategy: ALONE, optimizer: { ...OPTIMIZER, eps: 1e-3 }, dtype };
      await using step = TrainStep.create({ ...job, device: opened.device });
      const inFourBits = new Set(
        compileTraining({ ...job, model: packed }).layout.frozen.flatMap((place) => (place.nf4 ? [place.name] : [])),
      );
      assert.ok(inFourBits.size >= 8, 'the linear layers of both blocks');
      initialise(plain.base, 1, {
        load: (parameter, values) => {
          step.loadParameter(parameter, !isPacked && inFourBits.has(parameter) ? rounded(values, isDouble) : values);
        },
      });
      initialiseAdapter(model, 2, step.parameters);
      const losses: number[] = [];
      for (let n = 1; n <= 8; n++) {
        losses.push((await step.micro(BATCH, { scale: 1 / labelled(BATCH), isFirst: true })).loss);
        await step.update({ lr: 0.02, step: n });
      }
      return { losses, parameters: adapterParameters(model).map((parameter) => step.readParameter(parameter.name)) };
    };
    const [packed, plain] = [await train(true), await train(false)];
    assert.ok(packed.losses.at(-1)! < packed.losses[0]! - 0.05, packed.losses.join(' '));
    for (const [i, loss] of packed.losses.entries())
      assert.ok(Math.abs(loss - plain.losses[i]!) < tolerance, `${loss} ${plain.losses[i]}`);
    for (const [i, values] of packed.parameters.entries())
      assert.ok(values.every((value, at) => Math.abs(value - plain.parameters[i]![at]!) < 10 * tolerance));
  });
}

test('planned memory: a frozen base in 4 bits, gradients and optimiser state of the adapter alone', () => {
  const config = {
    model_type: 'llama',
    hidden_size: 256,
    intermediate_size: 512,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    num_key_value_heads: 4,
    max_position_embeddings: 64,
    vocab_size: 64,
  };
  const model = withAdapter(modelFromConfig(config), adapterFromConfig(CONFIG));
  const job = { rows: ROWS, strategy: ALONE, optimizer: OPTIMIZER };
  const plain = compileTraining({ ...job, model });
  const packed = compileTraining({ ...job, model: withNf4(model, { isDouble: true }) });
  const trained = 4 * plain.layout.elements;
  for (const { memory } of [plain, packed]) {
    assert.equal(memory.gradientBytes, trained);
    assert.equal(memory.optimizerBytes, 2 * trained);
  }
  const weights = 4 * (4 * 256 * 256 + 3 * 256 * 512);
  const saved = plain.memory.parameterBytes - packed.memory.parameterBytes;
  // 32 bits less 4.13, and per matrix a table of 256 floats.
  assert.ok(Math.abs(saved - weights * (4 - 4.13 / 8) + 28 * 1040) < 4096, `${saved} bytes of ${4 * weights}`);
});
