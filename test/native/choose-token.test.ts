// choose_token on every device against the sampler of the host: the same tokens, not just the same shares.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseToken, type SamplingOptions, samplingSettings, uniform } from '#src/infer/index.js';
import { DEVICES } from '../support/devices.js';
import { PlanWriter } from '../support/native-plan.js';
import { random, range } from './engine-reference.js';

const WORDS = 20;
const [POSITIONS, FORBIDDEN] = [12, 8];
const NOTHING = Array.from({ length: WORDS }, (_, word) => (word === 8 ? -1 : 0));

interface Asked {
  readonly row: number;
  readonly history: readonly number[];
  readonly forbidden: readonly number[];
  readonly options: SamplingOptions;
  readonly counter: readonly [number, number, number];
}

/** ChoiceSettings of native/core/ops/choose_token.h. */
function settingsOf({ row, history, forbidden, options, counter }: Asked): readonly number[] {
  const { temperature, topP, minP, repetitionPenalty, doSample, topK, seed } = samplingSettings(options);
  const numbers = Float64Array.of(temperature, topP, Math.log(minP), repetitionPenalty);
  const length = repetitionPenalty === 1 ? 0 : history.length;
  const words = [row, length, history.at(-1) ?? 0, forbidden.length, Number(doSample), topK];
  return [...new Int32Array(numbers.buffer), ...words, seed | 0, Math.floor(seed / 2 ** 32) | 0, ...counter, 0];
}

/** The slots' tables in one plan; the last token of each history is still to be written. */
function write(plan: PlanWriter, logits: readonly (readonly number[])[], slots: readonly (Asked | null)[]) {
  const rows = (of: (asked: Asked | null) => readonly number[], length: number, dtype: 'i32') =>
    plan.tensor(
      [slots.length, length],
      slots.flatMap((asked) => Array.from({ length }, (_, i) => of(asked)[i] ?? 0)),
      dtype,
    );
  const x = plan.tensor([logits.length, logits[0]!.length], logits.flat());
  const history = rows((asked) => asked?.history.slice(0, -1) ?? [], POSITIONS, 'i32');
  const settings = rows((asked) => (asked ? settingsOf(asked) : NOTHING), WORDS, 'i32');
  const forbidden = rows((asked) => asked?.forbidden ?? [], FORBIDDEN, 'i32');
  const [id, logit] = [plan.tensor([slots.length], null, 'i32'), plan.tensor([slots.length])];
  plan.op('choose_token', [x, history, settings, forbidden], [history, id, logit]);
  return { history, id, logit };
}

/** What the host's sampler says. */
function expectedOf(logits: readonly number[], { history, forbidden, options, counter }: Asked): number {
  const held = Float32Array.from(logits);
  const sampling = samplingSettings({ ...options, badWordsIds: forbidden.map((id) => [id]) });
  const likeliest = logits.indexOf(Math.max(...held));
  const random = () => uniform(sampling.seed, counter);
  return chooseToken({ logits: held, likeliest }, { tokens: history, newCount: 0 }, sampling, random);
}

const OPTIONS: readonly SamplingOptions[] = [
  {},
  { repetitionPenalty: 1.7 },
  { doSample: true },
  { temperature: 0.3 },
  { temperature: 40 },
  { topK: 1 },
  { topK: 5, temperature: 3 },
  { topP: 0.9 },
  { topP: 0.3, temperature: 8 },
  { minP: 0.05, temperature: 2 },
  { minP: 1 },
  { repetitionPenalty: 0.5, topP: 0.7, topK: 30, minP: 0.01, temperature: 1.3 },
];

/** Logits as of a model, some of them equal, some ruled out. */
function logitsOf(seed: number, vocabulary: number): readonly number[] {
  return random(seed)(vocabulary).map((value, id) => {
    if (id % 11 === 5) return -Infinity;
    return Math.fround(id % 7 === 3 ? Math.round(6 * value) : 9 * value);
  });
}

for (const { name, open } of DEVICES) {
  test(`choose_token takes and draws the tokens that the host's sampler does (${name})`, async () => {
    const device = open();
    try {
      for (const vocabulary of [1, 2, 23, 700, 3001]) {
        const logits = range(3).map((row) => logitsOf(vocabulary + row, vocabulary));
        const slots = OPTIONS.flatMap((options, index): (Asked | null)[] => {
          const history = range(1 + (index % POSITIONS)).map((t) => (t * t * 5 + index) % vocabulary);
          const forbidden = index % 3 === 0 ? [vocabulary - 1, index % vocabulary] : [];
          const asked = (seed: number): Asked => ({
            ...{ row: (index + Math.abs(seed)) % 3, history, forbidden: vocabulary > 2 ? forbidden : [] },
            ...{ options: { ...options, seed }, counter: [index, seed & 3, 7] },
          });
          return [asked(3), null, asked(-(2 ** 40) - 5), asked(2 ** 33 + 1)];
        });
        const plan = new PlanWriter();
        const tensors = write(plan, logits, slots);
        const loaded = plan.load(device);
        for (let run = 0; run < 3; run++) await loaded.program.run(); // the third one is a graph's second
        const [ids, values, history] = [tensors.id, tensors.logit, tensors.history].map((tensor) =>
          loaded.read(tensor),
        );
        for (const [slot, asked] of slots.entries()) {
          const what = `${vocabulary} entries, slot ${slot}: ${JSON.stringify(asked)}`;
          const id = asked ? expectedOf(logits[asked.row]!, asked) : 0;
          assert.equal(ids![slot], id, what);
          assert.equal(values![slot], asked ? Math.fround(logits[asked.row]![id]!) : 0, what);
          if (!asked || asked.options.repetitionPenalty === undefined) continue;
          const kept = history!.slice(slot * POSITIONS, slot * POSITIONS + asked.history.length);
          assert.deepEqual(kept, asked.history, 'the last token is appended');
        }
        loaded.dispose();
      }
    } finally {
      device.dispose();
    }
  });

  test(`choose_token refuses what is out of range by name (${name})`, async () => {
    const sound: Asked = {
      row: 0,
      history: [1, 2],
      forbidden: [3],
      options: { repetitionPenalty: 2 },
      counter: [0, 0, 0],
    };
    const wrong: readonly [Partial<Asked>, RegExp][] = [
      [{ row: 1 }, /choose_token.*row\[.*\] is 1, expected -1 <= value < 1/],
      [{ history: range(POSITIONS + 1).map(() => 0) }, /length\[.*\] is 13, expected 0 <= value < 13/],
      [{ history: [1, 9] }, /last\[.*\] is 9, expected 0 <= value < 5/],
      [{ history: [-4, 1] }, /history\[0\] is -4, expected 0 <= value < 5/],
      [{ forbidden: [1, 5] }, /forbidden\[1\] is 5, expected 0 <= value < 5/],
      [{ forbidden: range(FORBIDDEN + 1) }, /forbidden count\[.*\] is 9, expected 0 <= value < 9/],
    ];
    const device = open();
    try {
      for (const [change, message] of wrong) {
        const plan = new PlanWriter();
        write(plan, [[1, 2, 3, 4, 5]], [{ ...sound, ...change }]);
        await assert.rejects(plan.load(device).program.run(), message);
      }
    } finally {
      device.dispose();
    }
  });
}
