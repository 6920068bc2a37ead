// Decoding by few sequences: bound by reading the weights and the cache once for each token of all of them.
import { layoutOf, ParameterStore } from '#src/engine/index.js';
import { Generator } from '#src/infer/index.js';
import { initialise, modelFromConfig } from '#src/models/index.js';
import type { NativeDevice } from '#src/native/index.js';
import type { Ceilings } from './ops.js';
import { type DecodingShape, nameOf, show } from './shapes.js';

const PROMPT_TOKENS = 16;

export async function measureDecoding(device: NativeDevice, shape: DecodingShape, ceilings: Ceilings): Promise<void> {
  const { config, steps } = shape;
  const model = modelFromConfig(config);
  using store = new ParameterStore(device, layoutOf(model, 'bf16'));
  initialise(model, 0, store);
  const slots = Math.max(...shape.sequences);
  const positions = Math.min(1024, Number(config.max_position_embeddings));
  using generator = new Generator({ model, store, slots, positions, prefillRows: slots * PROMPT_TOKENS });
  const weightBytes = 2 * store.parameters.reduce((sum, { length }) => sum + length, 0);
  const heads = Number(config.num_attention_heads);
  const rowBytes =
    (4 * Number(config.num_hidden_layers) * Number(config.hidden_size) * Number(config.num_key_value_heads)) / heads;
  for (const count of shape.sequences) {
    await decode(generator, model.vocabularySize, count, 4);
    const seconds = await decode(generator, model.vocabularySize, count, steps);
    const bytes = weightBytes + count * rowBytes * (PROMPT_TOKENS + steps / 2);
    show(nameOf.decoding(shape, count), {
      tokensPerSecond: count / seconds,
      ofCopy: bytes / seconds / ceilings.bytesPerSecond,
    });
  }
}

/** Seconds of a token of all sequences, behind their first. */
async function decode(generator: Generator, vocabulary: number, count: number, steps: number): Promise<number> {
  const id = (sequence: number, at: number) => (at * 7919 + at * at * 31 + 13 + sequence) % vocabulary;
  const prompts = Array.from({ length: count }, (_, sequence) =>
    Array.from({ length: PROMPT_TOKENS }, (_unused, at) => id(sequence, at)),
  );
  let start = 0;
  let tokens = 0;
  for await (const event of generator.stream(prompts, { maxNewTokens: steps, eosTokenIds: [] })) {
    if (event.kind === 'end') continue;
    tokens += 1;
    if (tokens === count) start = performance.now();
  }
  return (performance.now() - start) / 1000 / (steps - 1);
}
