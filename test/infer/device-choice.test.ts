// Tokens that the device chooses while it decodes are those that the host's sampler makes of the same logits: whatever a sequence has behind it,
// in whichever slot it grows, with or without help of the host.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseToken, type GenerateOptions, Generator, samplingSettings, uniform } from '#src/infer/index.js';
import { longModel, VOCABULARY, withStore } from './model-for-tests.js';

const WAYS: Readonly<Record<string, Partial<GenerateOptions>>> = {
  'a penalty on what came before': { repetitionPenalty: 1.4 },
  'draws with a penalty': { temperature: 1.5, repetitionPenalty: 1.2, numReturnSequences: 2, seed: 9 },
  'draws from few': { topK: 6, topP: 0.8, minP: 0.05, seed: -3 },
  'what must not come': { doSample: true, noRepeatNgramSize: 2, badWordsIds: [[7], [3, 4]], minNewTokens: 5 },
  'typical tokens': { typicalP: 0.6, repetitionPenalty: 1.2 },
};
const range = (length: number) => Array.from({ length }, (_, i) => i);

for (const [name, way] of Object.entries(WAYS)) {
  test(`${name}: the host's sampler finds the same tokens`, async () => {
    const model = longModel('llama');
    // More prompts than slots, two of them alike, one with a block of the cache in common with another.
    const long = range(70).map((t) => (t * 7) % VOCABULARY);
    const prompts = [long, [1, 2, 3], long, [...long.slice(0, 64), 5, 5], [9]];
    const options = { maxNewTokens: 12, ...way };
    await withStore(model, async (store) => {
      using generator = new Generator({ model, store, slots: 3, positions: 100, prefillRows: 32 });
      const found = await generator.generate(prompts, { ...options, hasStepLogits: true });
      const { maxNewTokens: _, numReturnSequences: __, ...asked } = options;
      const sampling = samplingSettings(asked, model.eosTokenIds);
      for (const { prompt, sequence, ids, stepLogits } of found) {
        for (const [t, id] of ids.entries()) {
          const logits = stepLogits[t]!;
          const history = { tokens: [...prompts[prompt]!, ...ids.slice(0, t)], newCount: t };
          const likeliest = logits.indexOf(Math.max(...logits));
          const random = () => uniform(sampling.seed, [t, prompt, sequence]);
          const expected = chooseToken({ logits: logits.slice(), likeliest }, history, sampling, random);
          assert.equal(id, expected, `prompt ${prompt}, sequence ${sequence}, token ${t}`);
        }
      }
      assert.deepEqual(
        await generator.generate(prompts, options),
        found.map((each) => ({ ...each, stepLogits: [] })),
      );
    });
  });
}
