// Recipes beside `sft` on real processes: classifiers on BERT and causal models, masked language models, and from one to the other.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { type Cluster, init } from '#src/client/index.js';
import { type Label, randomFrom } from '#src/data/index.js';
import { Checkpoint, writeSafetensors } from '#src/models/index.js';
import {
  type ClassifyOptions,
  classify,
  maskedLm,
  mergeAdapter,
  type Recipe,
  Trainer,
  type TrainingResult,
} from '#src/train/index.js';
import { letters } from '../data/letters.js';
import { CLI } from '../support/cli.js';

let cluster: Cluster;
let storage: string;
before(async () => {
  storage = await mkdtemp(join(tmpdir(), 'raylite-recipes-'));
  cluster = await init({ address: 'local', numCpus: 2 });
});
after(async () => {
  await cluster[Symbol.asyncDispose]();
  await rm(storage, { recursive: true, force: true });
});

const fit = (name: string, recipe: Recipe, workers = 1): Promise<TrainingResult> =>
  new Trainer({
    recipe,
    scaling: { workers },
    deepspeed: { train_batch_size: 2, train_micro_batch_size_per_gpu: 1, optimizer: { type: 'AdamW' } },
    run: { storage, name },
  }).fit();

/** Six letters each, and a label that they decide. */
function texts(count: number, label: (letters: string) => Label) {
  const random = randomFrom(7);
  return Array.from({ length: count }, () => {
    const text = Array.from({ length: 6 }, () => random.pick([...'abcdef'])).join(' ');
    return { text, label: label(text) };
  });
}

const byFirst = (text: string) => (text < 'd' ? 'early' : 'late');
const BERT = { kind: 'bert', layers: 1, hidden: 32, heads: 2 } as const;
const base = { tokenizer: letters, sequenceLength: 32, maxSteps: 60, learningRate: 5e-3 };

function close(a: readonly number[], b: readonly number[]): void {
  assert.equal(a.length, b.length);
  for (const [step, loss] of a.entries())
    assert.ok(Math.abs(loss - b[step]!) < 2e-5, `step ${step}: ${loss} and ${b[step]}`);
}

async function configIn(folder: string) {
  return JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as Record<string, unknown>;
}

test('BERT learns classes by name: the same with two workers, figures of what was held out, a Hugging Face folder', async () => {
  const recipe = (more: Partial<ClassifyOptions> = {}) =>
    classify({ model: BERT, data: { records: texts(300, byFirst) }, ...base, ...more });
  const one = await fit('bert', recipe());
  assert.equal(one.evaluation?.records, 30);
  assert.ok(one.evaluation.accuracy! > 0.9, JSON.stringify(one.evaluation));
  assert.ok(one.evaluation['f1.late']! > 0.9);
  const two = await fit('bert-2', recipe(), 2);
  close(two.losses, one.losses);
  assert.deepEqual(two.evaluation, one.evaluation);
  const config = await configIn(one.model);
  assert.deepEqual(config.id2label, { 0: 'early', 1: 'late' });
  assert.deepEqual(config.architectures, ['BertForSequenceClassification']);
  assert.equal(config.problem_type, 'single_label_classification');

  // It goes on with its head and its names, though the new data have one of them alone.
  const records = texts(40, byFirst).filter(({ label }) => label === 'late');
  const next = { model: one.model, data: { records }, maxSteps: 1, learningRate: 1e-5 };
  const more = await fit('bert-more', recipe(next));
  assert.ok(more.losses[0]! < 0.3, 'the head was kept');
  assert.deepEqual((await configIn(more.model)).id2label, config.id2label);
  // Other labels start a new head.
  const other = { ...next, data: { records: texts(40, (text) => text[0]!) } };
  const changed = await fit('bert-other', recipe(other));
  assert.ok(changed.losses[0]! > 1, 'the head is new');
  assert.equal((await configIn(changed.model)).problem_type, 'single_label_classification');
});

test('a causal model learns several classes at once, and numbers', async () => {
  const model = { kind: 'llama', layers: 1, hidden: 32, heads: 2 } as const;
  const both = (text: string) => [...(text.includes('a') ? ['has-a'] : []), ...(text.includes('b') ? ['has-b'] : [])];
  const several = await fit(
    'several',
    classify({ model, data: { records: texts(300, both) }, ...base, maxSteps: 120 }),
  );
  assert.ok(several.evaluation!.f1Micro! > 0.85, JSON.stringify(several.evaluation));
  const share = (text: string) => text.split('a').length / 4 + 0.1;
  const numbers = await fit('numbers', classify({ model, data: { records: texts(300, share) }, ...base }));
  assert.ok(numbers.evaluation!.mse! < 0.02, JSON.stringify(numbers.evaluation));
  assert.equal((await configIn(numbers.model)).problem_type, 'regression');
});

test('a masked language model learns from both sides, hides the same with two workers, and lends its body to a classifier', async () => {
  const records = Array.from({ length: 200 }, (_unused, index) => ({
    text: Array.from({ length: 10 }, () => 'abcdefghij'[index % 10]).join(' '),
  }));
  const recipe = () => maskedLm({ model: BERT, data: { records }, ...base, maxSteps: 100 });
  const one = await fit('masked', recipe());
  assert.ok(one.evaluation!.perplexity! < 3, JSON.stringify(one.evaluation)); // of 10 letters
  close((await fit('masked-2', recipe(), 2)).losses, one.losses);
  await using checkpoint = await Checkpoint.open(one.model);
  assert.equal(checkpoint.model.architecture, 'BertForMaskedLM');
  const tuned = await fit(
    'lent',
    classify({ ...base, model: one.model, data: { records: texts(60, byFirst) }, maxSteps: 2 }),
  );
  assert.equal(Array.isArray((await configIn(tuned.model)).architectures), true);
  await using classifier = await Checkpoint.open(tuned.model);
  assert.equal(classifier.model.labelCount, 2);
});

test('a classifier on LoRA, with 4-bit weights too: body frozen, head trained and saved with the adapter, which merges', async () => {
  const body = await fit('body', maskedLm({ model: BERT, data: { records: texts(200, byFirst) }, ...base }));
  // A bare BertModel, as Transformers saves it: no head, and names without the prefix.
  const bare = join(storage, 'bare');
  await cp(body.model, bare, { recursive: true });
  await writeFile(
    join(bare, 'config.json'),
    JSON.stringify({ ...(await configIn(body.model)), architectures: ['BertModel'] }),
  );
  await using full = await Checkpoint.open(body.model);
  const names = [...full.parameters.values()].filter(({ name }) => name.startsWith('bert.'));
  const tensors = await Promise.all(
    names.map(async ({ name, dims }) => {
      const values = await full.read(name);
      return { name: name.slice('bert.'.length), shape: dims, read: () => values };
    }),
  );
  await writeSafetensors(join(bare, 'model.safetensors'), tensors);
  const recipe = (more: Partial<ClassifyOptions> = {}) =>
    classify({ ...base, model: bare, data: { records: texts(300, byFirst) }, lora: { rank: 4 }, ...more });
  const one = await fit('lora', recipe());
  assert.ok(one.evaluation!.accuracy! > 0.85, JSON.stringify(one.evaluation));
  close((await fit('lora-2', recipe(), 2)).losses, one.losses);
  const config = JSON.parse(await readFile(join(one.adapter!, 'adapter_config.json'), 'utf8')) as object;
  assert.deepEqual(
    { ...config, r: 4 },
    { ...config, task_type: 'SEQ_CLS', modules_to_save: ['classifier', 'score', 'pooler'] },
  );
  await using tuned = await Checkpoint.open(one.model);
  assert.deepEqual(
    await tuned.read('bert.embeddings.word_embeddings.weight'),
    await full.read('bert.embeddings.word_embeddings.weight'),
  );
  const merged = await mergeAdapter(one.adapter!, join(storage, 'merged'), { base: bare });
  await using joined = await Checkpoint.open(merged);
  for (const name of tuned.parameters.keys()) assert.deepEqual(await joined.read(name), await tuned.read(name), name);
  const quantised = await fit('qlora', recipe({ quantization: { bits: 4 }, bf16: true }));
  assert.ok(quantised.evaluation!.accuracy! > 0.8, JSON.stringify(quantised.evaluation));
});

test('raylite train runs a classifier that a file describes, on CSV', async () => {
  const folder = join(storage, 'files');
  await mkdir(folder);
  await letters.save(join(folder, 'tokenizer'));
  const rows = texts(60, byFirst).map(({ text, label }) => `"${text}",${String(label)}`);
  await writeFile(join(folder, 'data.csv'), ['text,label', ...rows].join('\n'));
  const recipe = { kind: 'classify', ...base, model: BERT, data: join(folder, 'data.csv'), maxSteps: 2 };
  const job = { recipe: { ...recipe, tokenizer: join(folder, 'tokenizer') }, run: { storage, name: 'file' } };
  await writeFile(join(folder, 'job.json'), JSON.stringify(job));
  const run = promisify(execFile);
  const { stdout } = await run(process.execPath, [CLI, 'train', join(folder, 'job.json'), '--json']);
  const result = JSON.parse(stdout) as TrainingResult;
  assert.equal(result.losses.length, 2);
  assert.equal(result.evaluation?.records, 6);
  const { stdout: estimate } = await run(process.execPath, [CLI, 'estimate', join(folder, 'job.json')]);
  assert.match(estimate, /ZeRO stage 1, micro-batches of 1 × 32 tokens/);
  await writeFile(join(folder, 'job.json'), JSON.stringify({ recipe: { kind: 'clasify' } }));
  await assert.rejects(
    run(process.execPath, [CLI, 'train', join(folder, 'job.json')]),
    /one of sft, classify, maskedLm/,
  );
});

test('a label that the model does not know, a tokenizer without a mask and a model of another kind are refused by name', async () => {
  const records = texts(10, byFirst);
  const unknown = { records: [{ text: 'a', label: 'never' }] };
  const held = classify({ ...base, model: BERT, data: { records }, evaluationData: unknown });
  await assert.rejects(fit('unknown', held), /DataError: record 1: label: expected one of early, late, got "never"/);
  const gpt2 = { kind: 'gpt2', layers: 1, hidden: 32, heads: 2 } as const;
  await assert.rejects(
    fit('causal', maskedLm({ ...base, model: gpt2, data: { records } })),
    /maskedLm\.model: expected a model of type bert/,
  );
  assert.throws(() => classify({ ...base, model: BERT, data: { records }, heldOut: 1 }), /classify\.heldOut: expected/);
});
