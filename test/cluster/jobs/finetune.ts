// A job: tunes a small model on generated instructions, its ranks spread over the nodes. Prints one line of JSON an event.
// Usage: node finetune.js NAME STORAGE WORKERS [GATE]: with GATE, holds still after step 8 of its first attempt until that file exists.
import { existsSync } from 'node:fs';
import { init } from 'raylite';
import { generateInstructions, trainBpe } from 'raylite/data';
import { sft, Trainer } from 'raylite/train';

const [name = 'run', storage = '.', workers = '2', gate] = process.argv.slice(2);
const say = (event: object): void => console.log(JSON.stringify(event));

await using _cluster = await init();
const records = generateInstructions({ train: 300, heldOut: 0, seed: 1 }).train;
const tokenizer = trainBpe(
  records.map((placed) => JSON.stringify(placed.record)),
  { vocabSize: 400 },
);
const trainer = new Trainer({
  recipe: sft({
    model: { kind: 'gpt2', layers: 2, hidden: 64, heads: 4 },
    data: { records },
    tokenizer,
    sequenceLength: 128,
    template: 'short',
    maxSteps: 16,
    learningRate: 1e-3,
    seed: 7,
  }),
  scaling: { workers: Number(workers), cpusPerWorker: 1, placement: 'spread' },
  deepspeed: { train_batch_size: 4, train_micro_batch_size_per_gpu: 1 },
  run: { name, storage, checkpoint: { everySteps: 5 }, failure: { maxFailures: 2 } },
});
let isFirstAttempt = true;
const result = await trainer.fit({
  onProgress: (event) => {
    if (event.kind === 'started') say({ kind: 'started', group: event.group, fromStep: event.fromStep });
    if (event.kind === 'step') say({ kind: 'step', step: event.step });
    if (event.kind === 'failed') {
      isFirstAttempt = false;
      say({ kind: 'failed', failures: event.failures, error: String(event.error) });
    }
    if (event.kind === 'step' && event.step === 8 && gate !== undefined && isFirstAttempt) {
      say({ kind: 'holding' });
      const never = new Int32Array(new SharedArrayBuffer(4));
      while (!existsSync(gate)) Atomics.wait(never, 0, 0, 10); // the driver itself stands still, workers do not
    }
  },
});
say({ kind: 'done', losses: result.losses, failures: result.metrics.failures });
