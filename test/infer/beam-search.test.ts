// Beam search against a plain copy of what Transformers' `_beam_search` computes, over sequences evaluated without a cache.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type GenerateOptions, Generator } from '#src/infer/index.js';
import { evaluated, longModel, withStore } from './model-for-tests.js';

interface Beam {
  readonly ids: readonly number[];
  readonly score: number;
  readonly isDone: boolean;
}

const best = (beams: readonly Beam[], count: number) => beams.toSorted((a, b) => b.score - a.score).slice(0, count);

/** Scores and masks as there: everything is kept, what does not count is moved down by 1e9. */
async function reference(
  next: (ids: readonly number[]) => Promise<readonly number[]>,
  { numBeams = 1, lengthPenalty = 1, earlyStopping = false, eosTokenIds = [], maxNewTokens }: GenerateOptions,
): Promise<readonly Beam[]> {
  let running: readonly Beam[] = Array.from({ length: numBeams }, (_, i) => ({
    ids: [],
    score: i === 0 ? 0 : -1e9,
    isDone: false,
  }));
  let complete: readonly Beam[] = running.map((beam) => ({ ...beam, score: -1e9 }));
  let canImprove = true;
  for (let length = 1; ; length++) {
    const all: Beam[] = [];
    for (const { ids, score } of running) {
      const logProbs = await next(ids);
      for (const [id, logProb] of logProbs.entries())
        all.push({ ids: [...ids, id], score: score + logProb, isDone: false });
    }
    const top = best(all, Math.max(2, 1 + eosTokenIds.length) * numBeams).map((beam) => ({
      ...beam,
      isDone: length === maxNewTokens || eosTokenIds.includes(beam.ids.at(-1)!),
    }));
    running = best(
      top.map((beam) => ({ ...beam, score: beam.score - (beam.isDone ? 1e9 : 0), isDone: false })),
      numBeams,
    );
    const isFull = complete.every(({ isDone }) => isDone) && earlyStopping === true;
    const merged = top.map((beam, rank) => {
      const counts = beam.isDone && rank < numBeams;
      const malus = (isFull ? 1e9 : 0) + (canImprove ? 0 : 1e9) + (counts ? 0 : 1e9);
      return { ...beam, score: beam.score / length ** lengthPenalty - malus, isDone: counts };
    });
    complete = best([...complete, ...merged], numBeams);
    const isComplete = complete.every(({ isDone }) => isDone);
    const longest = earlyStopping === 'never' && lengthPenalty > 0 ? maxNewTokens : length;
    const worst = isComplete ? complete.at(-1)!.score : -1e9;
    canImprove &&= running[0]!.score / longest ** lengthPenalty > worst;
    if (!canImprove || (isComplete && earlyStopping === true) || top.every(({ isDone }) => isDone)) return complete;
  }
}

const model = longModel('llama');
const PROMPTS = [[1], [7, 3, 8, 2, 2, 20], Array.from({ length: 66 }, (_, t) => (t * 3) % 23)];

for (const [name, options] of Object.entries({
  'four beams': { numBeams: 4, maxNewTokens: 8, eosTokenIds: [5] },
  'three beams that stop early': { numBeams: 3, maxNewTokens: 12, eosTokenIds: [5, 9], earlyStopping: true },
  'long sequences preferred, never early': {
    numBeams: 3,
    maxNewTokens: 10,
    eosTokenIds: [5, 9, 4],
    earlyStopping: 'never',
    lengthPenalty: 2,
  },
  'short sequences preferred': { numBeams: 5, maxNewTokens: 10, eosTokenIds: [1, 2, 3, 4, 5, 6], lengthPenalty: -1 },
} satisfies Record<string, GenerateOptions>)) {
  test(`beam search finds what Transformers' finds: ${name}`, () =>
    withStore(model, async (store) => {
      using generator = new Generator({ model, store, slots: 5, positions: 200 });
      const numReturnSequences = 3;
      const found = await generator.generate(PROMPTS, { ...options, numReturnSequences });
      for (const [index, prompt] of PROMPTS.entries()) {
        const expected = await reference(async (ids) => {
          const tokens = [...prompt, ...ids];
          const { row } = await evaluated(model, store, tokens);
          const logits = Array.from(row(tokens.length - 1));
          const total = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
          return logits.map((logit) => logit - total);
        }, options);
        const own = found.filter((generation) => generation.prompt === index);
        assert.deepEqual(
          own.map(({ ids }) => ids),
          expected.slice(0, numReturnSequences).map(({ ids }) => ids),
        );
        for (const [i, { score, end, ids }] of own.entries()) {
          assert.ok(Math.abs(score! - expected[i]!.score) < 1e-4);
          assert.equal(end, (options.eosTokenIds as number[]).includes(ids.at(-1)!) ? 'stop' : 'length');
        }
      }
    }));
}

test('options that beams cannot keep are refused', () =>
  withStore(model, async (store) => {
    using generator = new Generator({ model, store, slots: 2, positions: 20 });
    const generate = (options: Partial<GenerateOptions>) => generator.generate([[1]], { maxNewTokens: 4, ...options });
    await assert.rejects(generate({ numBeams: 3 }), /numBeams: expected at most 2, the slots of the generator, got 3/);
    await assert.rejects(generate({ numBeams: 2, temperature: 0.5 }), /numBeams: expected 1 where tokens are drawn/);
    await assert.rejects(
      generate({ numBeams: 2, numReturnSequences: 3 }),
      /numReturnSequences: expected at most numBeams/,
    );
    await assert.rejects(generate({ numReturnSequences: 2 }), /numReturnSequences.*set doSample or numBeams/);
    await assert.rejects(generate({ numBeams: 2, topLogProbs: 1 }), /topLogProbs/);
    await assert.rejects(
      generate({ num_beams: 2 } as Partial<GenerateOptions>),
      /num_beams: expected one of .*numBeams/,
    );
  }));
