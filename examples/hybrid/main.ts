// Run: npm run build && npx tsx examples/hybrid/main.ts
// One model that learns to count and is asked in between, from the same memory: what it says goes from noise to the next letters.
import { meshOf, openDevice, type TokenBatch, TrainStep } from 'raylite/engine';
import { HybridEngine } from 'raylite/infer';
import { initialise, modelFromConfig } from 'raylite/models';

const LETTERS = 'abcdefghijklmnopqrstuvwxyz';
const ROWS = 104; // four times the alphabet in a micro-batch
const config = { model_type: 'gpt2', n_layer: 2, n_head: 2, n_embd: 32, n_positions: 32, vocab_size: LETTERS.length };

/** Alphabets that begin anywhere, side by side: the label of each letter is the next one. */
function alphabets(first: number): TokenBatch {
  const row = Int32Array.from({ length: ROWS }, (_, t) => t);
  const start = (t: number) => t - (t % LETTERS.length);
  const letter = (t: number) => (first + 7 * Math.floor(t / LETTERS.length) + t) % LETTERS.length;
  return {
    ids: row.map(letter),
    positions: row.map((t) => t % LETTERS.length),
    starts: row.map(start),
    ends: row.map((t) => start(t) + LETTERS.length),
    labels: row.map((t) => (letter(t) + 1) % LETTERS.length),
  };
}

const model = modelFromConfig({ ...config, resid_pdrop: 0, embd_pdrop: 0, attn_pdrop: 0 });
const device = openDevice();
const optimizer = { kind: 'adamw', beta1: 0.9, beta2: 0.99, eps: 1e-8, weightDecay: 0, maxGradientNorm: 1 } as const;
const strategy = { zeroStage: 0, mesh: meshOf(), rank: 0 } as const;
await using train = TrainStep.create({ model, rows: ROWS, strategy, optimizer, device });
initialise(model, 1, train.parameters);
using hybrid = new HybridEngine(train, { model, maxOutTokens: 24, slots: 2 });

const prompts = ['abc', 'mno'].map((text) => Array.from(text, (letter) => LETTERS.indexOf(letter)));
const ask = async (steps: number) => {
  const said = await hybrid.generate(prompts, { maxNewTokens: 8, temperature: 0 });
  const texts = said.map(({ prompt, ids }) => [...prompts[prompt]!, ...ids].map((id) => LETTERS[id]).join(''));
  console.log(`after ${steps} steps: ${texts.join(' ')}`);
};

await ask(0);
for (let step = 1; step <= 120; step++) {
  await train.micro(alphabets(step), { scale: 1 / ROWS, isFirst: true });
  await train.update({ lr: 5e-3, step });
  if (step % 40 === 0) await ask(step);
}
const { weightBytes, cacheBytes, programBytes } = hybrid.memory.generation;
console.log(
  `generation: ${weightBytes} bytes of weights, ${cacheBytes} of keys and values, ${programBytes} of programs`,
);
