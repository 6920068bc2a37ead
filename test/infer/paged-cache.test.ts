// The cache in blocks: sequences that begin alike share memory and still say what they would say alone; prompts wait for room.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Generator } from '#src/infer/index.js';
import { longModel, VOCABULARY, withStore } from './model-for-tests.js';

const model = longModel('gpt2');
/** Keys and values of 64 tokens: 2 layers, 80 columns each, 4 bytes. */
const BLOCK_BYTES = 2 * 2 * 80 * 64 * 4;
const beginning = (length: number) => Array.from({ length }, (_, t) => (t * 5 + 1) % VOCABULARY);
const PROMPTS = [
  beginning(150),
  [...beginning(130), 3, 4, 5],
  beginning(150),
  [...beginning(64), 9],
  beginning(64),
  [9, 9, 9],
];

test('prompts that begin alike share blocks of the cache and give what they give alone', () =>
  withStore(model, async (store) => {
    using alone = new Generator({ model, store, slots: 1, positions: 200 });
    using together = new Generator({ model, store, slots: 6, positions: 200, prefillRows: 48 });
    const options = { maxNewTokens: 20, eosTokenIds: [], hasStepLogits: true };
    const expected = await alone.generate(PROMPTS, options);
    assert.deepEqual(await together.generate(PROMPTS, options), expected);
  }));

test('samples of one prompt differ by their draws alone and do not depend on the slots', () =>
  withStore(model, async (store) => {
    const options = { maxNewTokens: 90, eosTokenIds: [], temperature: 1.5, numReturnSequences: 3, seed: 3 };
    using wide = new Generator({ model, store, slots: 6, positions: 200 });
    using narrow = new Generator({ model, store, slots: 1, positions: 200 });
    const results = await wide.generate(PROMPTS.slice(3), options);
    assert.deepEqual(
      results.map(({ prompt, sequence }) => [prompt, sequence]),
      [0, 1, 2].flatMap((prompt) => [0, 1, 2].map((sequence) => [prompt, sequence])),
    );
    assert.equal(new Set(results.map(({ ids }) => ids.join())).size, 9);
    assert.deepEqual(await narrow.generate(PROMPTS.slice(3), options), results);
  }));

test('with less memory prompts wait, and the results are the same', () =>
  withStore(model, async (store) => {
    const options = { maxNewTokens: 20, eosTokenIds: [] };
    using roomy = new Generator({ model, store, slots: 6, positions: 200 });
    using tight = new Generator({ model, store, slots: 6, positions: 200, cacheBytes: 5 * BLOCK_BYTES });
    assert.deepEqual(await tight.generate(PROMPTS, options), await roomy.generate(PROMPTS, options));
  }));

test('in 16 bits the same memory holds twice the blocks', () =>
  withStore(
    model,
    async (store) => {
      const options = { maxNewTokens: 20, eosTokenIds: [] };
      using roomy = new Generator({ model, store, slots: 6, positions: 200 });
      using tight = new Generator({ model, store, slots: 6, positions: 200, cacheBytes: 5 * (BLOCK_BYTES / 2) });
      assert.deepEqual(await tight.generate(PROMPTS, options), await roomy.generate(PROMPTS, options));
      assert.throws(
        () => new Generator({ model, store, slots: 2, positions: 200, cacheBytes: 4 * (BLOCK_BYTES / 2) }),
        new RegExp(`cacheBytes: expected at least ${5 * (BLOCK_BYTES / 2)}`),
      );
    },
    'bf16',
  ));

test('a cache too small for one sequence, or for the beams of a prompt, is refused with the figure', () =>
  withStore(model, async (store) => {
    assert.throws(
      () => new Generator({ model, store, slots: 2, positions: 200, cacheBytes: 4 * BLOCK_BYTES }),
      new RegExp(
        `cacheBytes: expected at least ${5 * BLOCK_BYTES}, got ${4 * BLOCK_BYTES}.*64 tokens has ${BLOCK_BYTES}`,
      ),
    );
    using tight = new Generator({ model, store, slots: 4, positions: 200, cacheBytes: 5 * BLOCK_BYTES });
    await assert.rejects(
      tight.generate([beginning(60)], { maxNewTokens: 20, numBeams: 4 }),
      /cacheBytes: .*beams of prompts\[0\] may need 8 blocks, the cache has 4/,
    );
  }));

test('a stream tells every token as it comes; leaving it or a signal frees the generator', () =>
  withStore(model, async (store) => {
    using generator = new Generator({ model, store, slots: 2, positions: 200 });
    const options = { maxNewTokens: 5, eosTokenIds: [], topLogProbs: 2 };
    const whole = await generator.generate([[1], [2, 3]], options);
    const seen: [number[], number[]] = [[], []];
    for await (const event of generator.stream([[1], [2, 3]], options)) {
      if (event.kind === 'end') assert.deepEqual(event.generation, whole[event.generation.prompt]);
      else {
        seen[event.prompt as 0 | 1].push(event.id);
        assert.deepEqual(event.top[0], { id: event.id, logProb: event.logProb });
        assert.ok(event.top[1]!.logProb <= event.logProb);
      }
    }
    assert.deepEqual(
      seen,
      whole.map(({ ids }) => ids),
    );
    for await (const _ of generator.stream([[1]], options)) break;
    const controller = new AbortController();
    await assert.rejects(async () => {
      for await (const _ of generator.stream([[1]], { ...options, signal: controller.signal })) {
        await assert.rejects(generator.generate([[1]], options), /one call at a time/);
        controller.abort();
      }
    }, /abort/i);
    assert.deepEqual(await generator.generate([[1], [2, 3]], options), whole);
  }));
