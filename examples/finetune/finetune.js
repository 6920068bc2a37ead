// Run: npm run build && npx raylite job submit --working-dir examples/finetune -- node finetune.js
// Tunes a small GPT-2-style model from scratch on generated instructions. Flags: --workers N --steps N --placement pack|spread
// --storage DIR (seen by all nodes; default ~/raylite_results) --every N (steps between checkpoints) --max-failures N --name NAME --seed N --data SOURCE
import { parseArgs } from 'node:util';
import { init } from 'raylite';
import { generateInstructions, promptOf, readRecords, trainBpe } from 'raylite/data';
import { sft, Trainer } from 'raylite/train';

const { values: flags } = parseArgs({
  options: {
    workers: { type: 'string', default: '2' },
    steps: { type: 'string', default: '100' },
    placement: { type: 'string', default: 'pack' },
    storage: { type: 'string' },
    every: { type: 'string', default: '20' },
    'max-failures': { type: 'string', default: '3' },
    name: { type: 'string' },
    seed: { type: 'string', default: '42' },
    data: { type: 'string' },
  },
});

const cluster = await init();
const seed = Number(flags.seed);
const { records } = flags.data
  ? await readRecords(flags.data)
  : { records: generateInstructions({ train: 4000, heldOut: 0, seed }).train };
const texts = records.map(({ record }) =>
  record.kind === 'alpaca' ? `${promptOf(record.instruction, record.input, 'short')} ${record.output}` : '',
);

const trainer = new Trainer({
  recipe: sft({
    model: { kind: 'gpt2', layers: 2, hidden: 64, heads: 4 },
    data: { records, skipBad: true },
    tokenizer: trainBpe(texts, { vocabSize: 768, splitDigits: true }),
    template: 'short',
    sequenceLength: 128,
    maxSteps: Number(flags.steps),
    learningRate: 4e-3,
    seed,
  }),
  scaling: { workers: Number(flags.workers), placement: flags.placement },
  deepspeed: {
    train_batch_size: 2 * Number(flags.workers),
    optimizer: { type: 'AdamW', params: { lr: 'auto', betas: [0.9, 0.99] } },
    scheduler: { type: 'WarmupCosineLR', params: { warmup_num_steps: 10 } },
    zero_optimization: { stage: 1 },
  },
  run: {
    name: flags.name,
    storage: flags.storage,
    checkpoint: { everySteps: Number(flags.every) },
    failure: { maxFailures: Number(flags['max-failures']) },
  },
});

try {
  const result = await trainer.fit({
    onProgress(event) {
      if (event.kind === 'step' && event.step % 10 === 0)
        console.log(
          `step ${event.step}/${event.totalSteps}  loss ${event.loss.toFixed(4)}  ${Math.round(event.tokensPerSecond)} tokens/s`,
        );
      else if (event.kind === 'started')
        console.log(`started with ${flags.workers} workers (${event.group}) after step ${event.fromStep}`);
      else if (event.kind === 'checkpoint') console.log(`checkpoint after step ${event.step}`);
      else if (event.kind === 'failed')
        console.log(`failure ${event.failures}: ${event.error instanceof Error ? event.error.message : event.error}`);
    },
  });
  console.log(`losses ${JSON.stringify(result.losses)}`);
  console.log(`model ${result.model}`);
} finally {
  await cluster.close();
}
