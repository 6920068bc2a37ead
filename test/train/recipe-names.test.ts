// Options that a recipe does not know: slips, names of other libraries, and what is neither.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sft } from '#src/train/index.js';

const refusal = (key: string): RegExp => new RegExp(`^sft\\.${key}: expected a key that exists, got "${key}"`);
const options = (key: string) => ({ model: 'm', data: 'd', [key]: 1 }) as unknown as Parameters<typeof sft>[0];

const said = (key: string): string => {
  try {
    sft(options(key));
  } catch (error) {
    const { message } = error as Error;
    assert.match(message, refusal(key));
    return message;
  }
  return assert.fail(`${key} was taken`);
};

test('a slip is told the option that was meant', () => {
  assert.match(said('maxStep'), /Did you mean "maxSteps"\?/);
  assert.match(said('learning_rate'), /Did you mean "learningRate"\?/);
});

test("names of Transformers, TRL and peft are told this one's, in either spelling", () => {
  for (const key of ['per_device_train_batch_size', 'perDeviceTrainBatchSize'])
    assert.match(said(key), /Here it is "microBatch"/);
  assert.match(said('num_train_epochs'), /Here it is "epochs"/);
  assert.match(said('gradient_accumulation_steps'), /Here it is "gradient_accumulation_steps" of the ds_config/);
  assert.match(said('output_dir'), /Here it is "run\.storage" of the Trainer/);
  assert.match(said('load_in_4bit'), /"quantization": \{ "bits": 4 \} beside "lora"/);
});

test('what is like nothing is told all that there is', () => {
  assert.match(said('flavour'), /There are bf16, data, dropout, epochs, /);
});
