// A whole step on the device: the same gradient however the tokens are cut into micro-batches and packed, the same
// parameters however many ranks share the optimiser.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Forward, layoutOf, ParameterStore, type TokenBatch, TrainStep } from '#src/engine/index.js';
import { initialise, type Model, modelFromConfig } from '#src/models/index.js';
import { openDevice } from './device-for-tests.js';
import { ALONE, labelled, OPTIMIZER, randomBatch, tinyGpt2, tinyLlama } from './models-for-tests.js';

const VOCABULARY = 37;

/** Gradients of `batches` as one step, every labelled token counting the same. */
async function gradientsOf(model: Model, batches: readonly TokenBatch[]): Promise<ReadonlyMap<string, Float32Array>> {
  using opened = openDevice();
  const rows = batches[0]!.ids.length;
  const settings = { model, rows, strategy: ALONE, optimizer: OPTIMIZER, device: opened.device };
  await using step = TrainStep.create(settings);
  initialise(model, 7, step.parameters);
  const tokens = batches.reduce((sum, batch) => sum + labelled(batch), 0);
  for (const [index, batch] of batches.entries()) await step.micro(batch, { scale: 1 / tokens, isFirst: index === 0 });
  return new Map(step.parameters.parameters.map(({ name }) => [name, step.readGradient(name)]));
}

function assertClose(found: ReadonlyMap<string, Float32Array>, expected: ReadonlyMap<string, Float32Array>): void {
  for (const [name, values] of expected) {
    const size = Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0) / values.length) + 1e-6;
    const worst = Math.max(...found.get(name)!.map((value, i) => Math.abs(value - values[i]!)));
    assert.ok(worst < 1e-4 * size + 1e-7, `${name}: differs by ${worst} (root mean square ${size})`);
  }
}

/** The sequences of `groups`, each group packed at the front of a batch of its own. */
function separately(groups: readonly (readonly number[])[], whole: TokenBatch, rows: number): readonly TokenBatch[] {
  let start = 0;
  return groups.map((lengths) => {
    const from = start;
    start += lengths.reduce((sum, length) => sum + length, 0);
    const batch = randomBatch(lengths, rows, VOCABULARY, 'overwritten');
    batch.ids.set(whole.ids.subarray(from, start));
    batch.labels.set(whole.labels.subarray(from, start));
    return batch;
  });
}

/** Lengths of sequences, in groups. */
const splits = fc.array(fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 3 }), {
  minLength: 1,
  maxLength: 3,
});

for (const [name, make] of [
  ['gpt2', tinyGpt2],
  ['llama', tinyLlama],
] as const) {
  test(`${name}: any split of packed sequences into micro-batches gives the same gradient`, async () => {
    await fc.assert(
      fc.asyncProperty(splits, async (groups) => {
        const lengths = groups.flat();
        const rows = lengths.reduce((sum, length) => sum + length, 0) + 3;
        const whole = randomBatch(lengths, rows, VOCABULARY, lengths.join());
        fc.pre(labelled(whole) > 0);
        const apart = separately(groups, whole, rows);
        assertClose(await gradientsOf(make(), apart), await gradientsOf(make(), [whole]));
      }),
      { numRuns: 12 },
    );
  });
}

for (const dtype of ['f32', 'bf16', 'f16'] as const) {
  test(`a job in ${dtype} ends where it is resumed: state read from one job and written to another goes on the same`, async () => {
    using opened = openDevice();
    const model = tinyLlama();
    const batch = randomBatch([9, 7], 20, VOCABULARY, 'resume');
    const settings = {
      model,
      rows: 20,
      strategy: ALONE,
      dtype,
      optimizer: OPTIMIZER,
      device: opened.device,
    };
    const advance = async (step: TrainStep, from: number, to: number) => {
      for (let n = from; n <= to; n++) {
        const lossScale = dtype === 'f16' ? 1024 : 1;
        await step.micro(batch, { scale: 1 / labelled(batch), isFirst: true, lossScale });
        await step.update({ lr: 1e-2, step: n, lossScale });
      }
    };
    await using whole = TrainStep.create(settings);
    initialise(model, 1, whole.parameters);
    await advance(whole, 1, 3);
    await using resumed = TrainStep.create(settings);
    for (const slice of whole.slices) {
      for (const kind of whole.stateOf(slice)) resumed.writeState(kind, slice, whole.readState(kind, slice));
    }
    await advance(whole, 4, 6);
    await advance(resumed, 4, 6);
    for (const { name } of whole.parameters.parameters) {
      assert.deepEqual(resumed.readParameter(name), whole.readParameter(name));
    }
  });
}

test('training brings the loss of a batch down, and evaluation over the same parameters agrees with the step', async () => {
  using opened = openDevice();
  const model = tinyGpt2();
  const batch = randomBatch([16, 10], 32, VOCABULARY, 'fit');
  const settings = {
    model,
    rows: 32,
    strategy: ALONE,
    optimizer: OPTIMIZER,
    device: opened.device,
  };
  await using step = TrainStep.create(settings);
  initialise(model, 1, step.parameters);
  using forward = new Forward({ model, rows: 32, hasLogits: true, hasHiddenStates: true }, step.parameters);
  const losses: number[] = [];
  for (let n = 1; n <= 30; n++) {
    const evaluated = await forward.run(batch);
    const { loss, tokenLosses } = await step.micro(batch, { scale: 1 / labelled(batch), isFirst: true });
    losses.push(loss);
    assert.ok(Math.abs(evaluated.loss / labelled(batch) - loss) < 1e-5);
    assert.ok(Math.max(...tokenLosses.map((value, i) => Math.abs(value - evaluated.tokenLosses[i]!))) < 1e-4);
    assert.equal(evaluated.hiddenStates.length, 3);
    assert.equal(evaluated.logits!.length, 32 * VOCABULARY);
    const { gradientNorm } = await step.update({ lr: 1e-2, step: n });
    assert.ok(gradientNorm > 0);
  }
  assert.ok(losses.at(-1)! < losses[0]! / 2, losses.join(' '));
});

test('a batch with values out of range is refused by field and row', async () => {
  using opened = openDevice();
  using store = new ParameterStore(opened.device, layoutOf(tinyGpt2()));
  using forward = new Forward({ model: tinyGpt2(), rows: 8 }, store);
  const good = randomBatch([8], 8, VOCABULARY, 'good');
  const wrong = (field: 'ids' | 'labels' | 'positions' | 'starts' | 'ends', row: number, value: number) => {
    const values = Int32Array.from(good[field]);
    values[row] = value;
    return forward.run({ ...good, [field]: values });
  };
  await assert.rejects(wrong('ids', 3, VOCABULARY), /batch\.ids\[3\]: expected an integer from 0 to 36, got 37/);
  await assert.rejects(wrong('labels', 2, -1), /batch\.labels\[2\]/);
  await assert.rejects(wrong('positions', 7, 8), /batch\.positions\[7\]/);
  await assert.rejects(wrong('ends', 0, 9), /batch\.ends\[0\]/);
  await assert.rejects(forward.run({ ...good, ids: new Int32Array(7) }), /batch\.ids: expected 8 rows, got 7/);
});

test('a number that is not finite is traced to the op that made it; a scale of no labels is refused', async () => {
  using opened = openDevice();
  const model = tinyGpt2();
  const batch = randomBatch([16, 10], 32, VOCABULARY, 'trace');
  const settings = {
    model,
    rows: 32,
    strategy: ALONE,
    optimizer: OPTIMIZER,
    device: opened.device,
  };
  await using step = TrainStep.create(settings);
  initialise(model, 4, step.parameters);
  const options = { scale: 1 / labelled(batch), isFirst: true };
  await step.micro(batch, options);
  assert.equal(await step.diagnose(), null);
  step.parameters.view('transformer.h.1.mlp.c_fc.bias')[5] = Number.NaN;
  assert.ok(Number.isNaN((await step.micro(batch, options)).loss));
  assert.match(
    (await step.diagnose())!,
    /^instruction \d+ \(linear, transformer\.h\.1\.mlp\.c_fc\): y\[5\] is not finite$/,
  );
  await assert.rejects(step.micro(batch, { scale: 1 / 0, isFirst: true }), /scale: expected a finite number .* masked/);
});

test('the number of threads changes nothing but the order of sums in the gradients of norms', async () => {
  const config = { model_type: 'gpt2', n_layer: 2, n_head: 8, n_embd: 64, n_positions: 256, vocab_size: VOCABULARY };
  const model = modelFromConfig(config);
  const batch = randomBatch([120, 70], 200, VOCABULARY, 'threads');
  const run = async (threads: number) => {
    using opened = openDevice(threads);
    const settings = { model, rows: 200, strategy: ALONE, optimizer: OPTIMIZER, dropout: 'model' } as const;
    await using step = TrainStep.create({ ...settings, device: opened.device });
    initialise(model, 4, step.parameters);
    const { tokenLosses } = await step.micro(batch, { scale: 1 / labelled(batch), isFirst: true });
    const gradients = step.parameters.parameters.map(({ name }) => [name, step.readGradient(name)] as const);
    return { tokenLosses, gradients };
  };
  const alone = await run(1);
  assert.deepEqual(await run(1), alone);
  for (const threads of [2, 3, 4]) {
    const { tokenLosses, gradients } = await run(threads);
    assert.deepEqual(tokenLosses, alone.tokenLosses);
    assert.deepEqual(
      gradients.filter(([name]) => !name.includes('ln_')),
      alone.gradients.filter(([name]) => !name.includes('ln_')),
    );
    assertClose(new Map(gradients), new Map(alone.gradients));
  }
});
