// Evaluation of a saved model: in the type that it was trained in.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { trainBpe } from '#src/data/index.js';
import { layoutOf, ParameterStore } from '#src/engine/index.js';
import { initialise, modelFromConfig, saveModel } from '#src/models/index.js';
import { native } from '#src/native/index.js';
import { evaluateFolder } from '#src/train/index.js';
import { temporaryFolder } from '../support/temporary-folder.js';

test('a model saved in bf16 is evaluated in bf16', async () => {
  using folder = temporaryFolder();
  const tokenizer = trainBpe(['the cat sat on the mat'], { vocabSize: 280 });
  const { vocabSize } = tokenizer;
  const sizes = { n_embd: 32, n_layer: 1, n_head: 2, n_positions: 64, vocab_size: vocabSize };
  const model = modelFromConfig({ ...sizes, model_type: 'gpt2' });
  const device = native().createDevice({ threads: 1, isa: null, pin: false });
  try {
    using store = new ParameterStore(device, layoutOf(model));
    initialise(model, 1, store);
    await saveModel(folder.path, model, (name) => store.read(name), { dtype: 'bf16' });
  } finally {
    device.dispose();
  }
  const record = { kind: 'alpaca', instruction: 'the cat', input: '', output: 'sat on the mat' } as const;
  const evaluated = () =>
    evaluateFolder(folder.path, tokenizer.files, [{ place: 'a', record }], {
      template: 'short',
      sequenceLength: 64,
      maxNewTokens: 3,
      threads: 1,
    });
  const halved = await evaluated();
  const path = join(folder.path, 'config.json');
  const config = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  assert.equal(config.dtype, 'bfloat16');
  writeFileSync(path, JSON.stringify({ ...config, dtype: 'float32' }));
  const exact = await evaluated();
  assert.equal(halved.answers.length, 1);
  assert.equal(halved.tokens, exact.tokens);
  assert.notEqual(halved.lossSum, exact.lossSum);
  assert.ok(Math.abs(halved.lossSum - exact.lossSum) < 0.01 * exact.lossSum);
});
