// raylite's side of generation: answers "prefill N" and "decode N" with tokens per second and the first token of each sequence.
// Usage: generation-ours.js THREADS FOLDER. FOLDER holds config.json and, unless raylite makes them, the weights.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { layoutOf, ParameterStore } from '#src/engine/index.js';
import { Generator } from '#src/infer/index.js';
import { Checkpoint, initialise, type Model, modelFromConfig } from '#src/models/index.js';
import { native } from '#src/native/index.js';

const threads = Number(process.argv[2]);
const folder = process.argv[3]!;
const STEPS = 48;
const PROMPT_TOKENS = 16;

const device = native().createDevice({ threads, isa: null, pin: false });

async function open(): Promise<{ readonly model: Model; readonly store: ParameterStore }> {
  if (!existsSync(join(folder, 'model.safetensors'))) {
    const model = modelFromConfig(JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')));
    const store = new ParameterStore(device, layoutOf(model));
    initialise(model, 0, store);
    return { model, store };
  }
  await using checkpoint = await Checkpoint.open(folder);
  const store = new ParameterStore(device, layoutOf(checkpoint.model));
  await checkpoint.loadInto(store);
  return { model: checkpoint.model, store };
}

const { model, store } = await open();
const generator = new Generator({ model, store, slots: 16, positions: 1024, prefillRows: 512 });
const prompt = (sequence: number, length: number) =>
  Array.from({ length }, (_, k) => (k * 7919 + k * k * 31 + 13 + sequence) % model.vocabularySize);

/** Tokens per second from the first token of every sequence to the last. */
async function decode(count: number) {
  const prompts = Array.from({ length: count }, (_, sequence) => prompt(sequence, PROMPT_TOKENS));
  const first: number[] = [];
  let start = 0;
  let tokens = 0;
  for await (const event of generator.stream(prompts, { maxNewTokens: STEPS, eosTokenIds: [] })) {
    if (event.kind === 'end') continue;
    tokens += 1;
    if (tokens > count) continue;
    first.push(event.id);
    if (tokens === count) start = performance.now();
  }
  return { value: (tokens - count) / ((performance.now() - start) / 1000), first };
}

async function prefill(length: number) {
  const start = performance.now();
  const [result] = await generator.generate([prompt(0, length)], { maxNewTokens: 1, eosTokenIds: [] });
  return { value: length / ((performance.now() - start) / 1000), first: result!.ids };
}

console.log(JSON.stringify({ ready: 'raylite' }));
for await (const line of createInterface(process.stdin)) {
  const [command, count] = line.split(' ');
  console.log(JSON.stringify(await (command === 'prefill' ? prefill : decode)(Number(count))));
}
device.dispose();
