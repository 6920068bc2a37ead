// Run: npm run build && npx tsx examples/classify/main.ts TRAIN TEST   (JSONL or CSV with text and label)
// Teaches a small BERT-style model to tell labels of texts and says how often it is right on the second file. Flags: --model FOLDER
// (of Hugging Face; default: a new model) --tokenizer FOLDER --steps N --workers N --storage DIR (default ~/raylite_results) --name NAME
import { parseArgs } from 'node:util';
import { init } from 'raylite';
import { decodeLabelled, readDecoded, trainBpe } from 'raylite/data';
import { classify, Trainer } from 'raylite/train';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: 'string' },
    tokenizer: { type: 'string' },
    steps: { type: 'string', default: '150' },
    workers: { type: 'string', default: '1' },
    storage: { type: 'string' },
    name: { type: 'string' },
  },
});
const [train = '../shared/data/sms-spam-train.jsonl', test = '../shared/data/sms-spam-test.jsonl'] = positionals;

await using _cluster = await init();
const { records } = await readDecoded(train, decodeLabelled);
const tokenizer =
  flags.tokenizer ??
  flags.model ??
  trainBpe(
    records.map(({ record }) => record.text),
    { vocabSize: 2000, splitDigits: true },
  );
const result = await new Trainer({
  recipe: classify({
    model: flags.model ?? { kind: 'bert', layers: 2, hidden: 64, heads: 4 },
    tokenizer,
    data: { records },
    evaluationData: test,
    sequenceLength: 128,
    maxSteps: Number(flags.steps),
    learningRate: flags.model === undefined ? 2e-3 : 5e-5,
  }),
  scaling: { workers: Number(flags.workers) },
  deepspeed: {
    train_batch_size: 8 * Number(flags.workers), // rows of several texts each
    optimizer: { type: 'AdamW', params: { lr: 'auto', weight_decay: 0.01 } },
    scheduler: { type: 'WarmupCosineLR', params: { warmup_num_steps: 20 } },
  },
  run: {
    ...(flags.name === undefined ? {} : { name: flags.name }),
    ...(flags.storage === undefined ? {} : { storage: flags.storage }),
  },
}).fit({
  onProgress(event) {
    if (event.kind === 'step' && event.step % 25 === 0)
      console.log(`step ${event.step}/${event.totalSteps}  loss ${event.loss.toFixed(4)}`);
  },
});

for (const [name, value] of Object.entries(result.evaluation ?? {})) console.log(`${name} ${Number(value.toFixed(4))}`);
console.log(`model ${result.model}`);
