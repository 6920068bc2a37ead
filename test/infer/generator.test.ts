// Decoding with a cache against evaluation without one, and slots that take several prompts in turn.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Generator } from '#src/infer/index.js';
import { type Model, modelFromConfig } from '#src/models/index.js';
import { evaluated, longModel, VOCABULARY, withStore } from './model-for-tests.js';

const model = (): Model =>
  modelFromConfig({
    model_type: 'mistral',
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    max_position_embeddings: 32,
    sliding_window: 5,
    initializer_range: 0.4,
    vocab_size: VOCABULARY,
    eos_token_id: 2,
  });

const PROMPTS = [[1, 5, 9], [4], [7, 7, 3, 8, 1, 0, 2, 6, 11], [20, 21], [13, 12, 14, 15]];

test('greedy decoding chooses what evaluation of the whole sequence says, whatever the slots and the prefill', () =>
  withStore(model(), async (store) => {
    for (const [slots, prefillRows] of [
      [1, 4],
      [2, 64],
      [5, 3],
    ] as const) {
      using generator = new Generator({ model: model(), store, slots, positions: 20, prefillRows });
      const results = await generator.generate(PROMPTS, { maxNewTokens: 6, eosTokenIds: [], hasStepLogits: true });
      for (const [index, { ids, stepLogits, end }] of results.entries()) {
        assert.equal(end, 'length');
        assert.equal(ids.length, 6);
        const { row } = await evaluated(model(), store, [...PROMPTS[index]!, ...ids]);
        for (const [t, found] of stepLogits.entries()) {
          const expected = row(PROMPTS[index]!.length + t - 1);
          assert.ok(Math.max(...found.map((value, i) => Math.abs(value - expected[i]!))) < 1e-4);
          assert.equal(ids[t], expected.indexOf(Math.max(...expected)));
        }
      }
    }
  }));

for (const family of ['gpt2', 'llama'] as const) {
  for (const dtype of ['f32', 'bf16', 'f16'] as const) {
    test(`${family} in ${dtype}: logits and log-probabilities of decoding are those of training's forward, to the bit`, () => {
      const made = longModel(family);
      return withStore(
        made,
        async (store) => {
          using generator = new Generator({ model: made, store, slots: 3, positions: 200, prefillRows: 50 });
          const prompts = [1, 70, 129].map((length) => Array.from({ length }, (_, t) => (t * 7 + length) % VOCABULARY));
          const options = { maxNewTokens: 9, eosTokenIds: [], hasStepLogits: true };
          for (const { prompt, ids, stepLogits, logProbs } of await generator.generate(prompts, options)) {
            const { length } = prompts[prompt]!;
            const { row, tokenLosses } = await evaluated(made, store, [...prompts[prompt]!, ...ids]);
            for (const [t, found] of stepLogits.entries()) assert.deepEqual(found, row(length + t - 1));
            assert.deepEqual(
              logProbs,
              Array.from(tokenLosses.subarray(length - 1, -1), (loss) => -loss),
            );
          }
        },
        dtype,
      );
    });
  }
}

test('draws depend on seed and prompt, not on what else is decoded', () =>
  withStore(model(), async (store) => {
    const options = { maxNewTokens: 8, eosTokenIds: [], temperature: 1, topP: 0.9, seed: 4 };
    using wide = new Generator({ model: model(), store, slots: 5, positions: 32 });
    using narrow = new Generator({ model: model(), store, slots: 1, positions: 32 });
    const ids = async (generator: Generator, seed: number) =>
      (await generator.generate(PROMPTS, { ...options, seed })).map((result) => result.ids);
    const first = await ids(wide, 4);
    assert.deepEqual(await ids(narrow, 4), first);
    assert.notDeepEqual(await ids(wide, 5), first);
  }));

test('a stop id ends a sequence, and so does the last position', () =>
  withStore(model(), async (store) => {
    using generator = new Generator({ model: model(), store, slots: 2, positions: 10 });
    const [free] = await generator.generate([[1, 5, 9]], { maxNewTokens: 30, eosTokenIds: [] });
    assert.equal(free!.end, 'full');
    assert.equal(free!.ids.length, 8, 'seven ids get a position, the last needs none');
    const [stopped] = await generator.generate([[1, 5, 9]], { maxNewTokens: 30, eosTokenIds: [free!.ids[2]!] });
    assert.equal(stopped!.end, 'stop');
    assert.equal(stopped!.ids.at(-1), free!.ids[2]);
    assert.ok(stopped!.ids.length <= 3);
  }));

test('prompts that cannot be decoded are refused by index, and a signal ends a call', () =>
  withStore(model(), async (store) => {
    using generator = new Generator({ model: model(), store, slots: 2, positions: 10 });
    const options = { maxNewTokens: 4 };
    await assert.rejects(generator.generate([[1], []], options), /prompts\[1\]: expected 1 to 10 tokens, got 0/);
    await assert.rejects(generator.generate([[1, VOCABULARY]], options), /prompts\[0\]: expected ids below 23, got 23/);
    await assert.rejects(generator.generate([[1]], { maxNewTokens: 0 }), /maxNewTokens/);
    await assert.rejects(generator.generate([[1]], { ...options, signal: AbortSignal.abort() }), /abort/i);
    assert.throws(() => new Generator({ model: model(), store, slots: 2, positions: 33 }), /at most 32/);
  }));
