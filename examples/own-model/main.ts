// Run: npm run build && npx tsx examples/own-model/main.ts TRAIN.jsonl TEST.jsonl   (records {"text": …, "label": …})
// Trains a model that is not in the library (mlp.ts) to tell labels of texts by their words, and says how often it is right.
import { readFile } from 'node:fs/promises';
import { type FeatureBatch, Forward, layoutOf, meshOf, openDevice, TrainStep } from 'raylite/engine';
import { initialise } from 'raylite/models';
import { mlp } from './mlp.js';

const FEATURES = 512;
const ROWS = 50; // of a batch
const EPOCHS = 4;

interface Example {
  readonly text: string;
  readonly label: string;
}

const read = async (file: string): Promise<Example[]> =>
  (await readFile(file, 'utf8'))
    .split('\n')
    .flatMap((line) => (line.trim() === '' ? [] : (JSON.parse(line) as Example)));

/** Counts of words and of shapes of words ("A0" for "Free2"), hashed into columns. */
function features(text: string, row: Float32Array): void {
  for (const word of text.split(/\s+/)) {
    const shape = word
      .replace(/[A-Z]+/g, 'A')
      .replace(/[0-9]+/g, '0')
      .replace(/[a-z]+/g, 'a');
    for (const key of [word.toLowerCase(), `shape ${shape}`]) {
      let hash = 2166136261;
      for (const character of key) hash = Math.imul(hash ^ character.codePointAt(0)!, 16777619);
      const column = (hash >>> 0) % FEATURES;
      row[column] = row[column]! + 0.3;
    }
  }
}

/** Rows [from, from + ROWS) of the examples; what is behind the last has no label. */
function batchOf(examples: readonly Example[], from: number, names: readonly string[]): FeatureBatch {
  const batch = { features: new Float32Array(ROWS * FEATURES), labels: new Int32Array(ROWS).fill(-100) };
  for (const [row, { text, label }] of examples.slice(from, from + ROWS).entries()) {
    features(text, batch.features.subarray(row * FEATURES, (row + 1) * FEATURES));
    batch.labels[row] = names.indexOf(label);
  }
  return batch;
}

const [trainFile = '../shared/data/sms-spam-train.jsonl', testFile = '../shared/data/sms-spam-test.jsonl'] =
  process.argv.slice(2);
const [train, test] = [await read(trainFile), await read(testFile)];
const names = [...new Set(train.map(({ label }) => label))].sort();
const model = mlp(FEATURES, names.length);
const device = openDevice();
const optimizer = { kind: 'adamw', beta1: 0.9, beta2: 0.99, eps: 1e-8, weightDecay: 0.01, maxGradientNorm: 1 } as const;
const strategy = { zeroStage: 0, mesh: meshOf(), rank: 0 } as const;
const step = TrainStep.create({ model, rows: ROWS, strategy, optimizer, device });
initialise(model, 1, step.parameters);

const perEpoch = Math.floor(train.length / ROWS);
for (let n = 0; n < EPOCHS * perEpoch; n++) {
  const { loss } = await step.micro(batchOf(train, (n % perEpoch) * ROWS, names), { scale: 1 / ROWS, isFirst: true });
  await step.update({ lr: 3e-3 * (1 - n / (EPOCHS * perEpoch)), step: n + 1 });
  if (n % perEpoch === 0) console.log(`epoch ${n / perEpoch + 1}: loss ${loss.toFixed(3)}`);
}

const forward = new Forward({ model, rows: ROWS, hasLogits: true }, step.parameters);
let right = 0;
for (let from = 0; from < test.length; from += ROWS) {
  const batch = batchOf(test, from, names);
  const { logits } = await forward.run(batch);
  batch.labels?.forEach((label, row) => {
    const scores = Array.from(logits!.subarray(row * names.length, (row + 1) * names.length));
    if (label === scores.indexOf(Math.max(...scores))) right += 1;
  });
}
const parameters = layoutOf(model).parameterElements;
console.log(
  `${names.join(', ')}: ${((100 * right) / test.length).toFixed(1)} % of ${test.length} right, ${parameters} parameters`,
);
forward[Symbol.dispose]();
await step[Symbol.asyncDispose]();
device.dispose();
