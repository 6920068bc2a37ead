// A model in training that is asked in between: by workers that hold it whole, in slices or in stages, and with an adapter. It says what
// the exported model says, and learns as if nobody had asked.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TextGenerator } from '#src/infer/index.js';
import type { Sample } from '#src/train/index.js';
import { STEPS, type TinyOptions, tinyRuns } from './tiny-trainer.js';

const { trainer } = tinyRuns('samples');

const samples = { prompts: ['Add 2 and 3.', 'Say it.', 'Count'], everySteps: 4, maxNewTokens: 10 };
const hybrid_engine = { enabled: true, max_out_tokens: 64, release_inference_cache: true, pin_parameters: false };

/** A run that is asked; its last answers are those of the folder that it leaves. */
async function expectAnswers(name: string, workers: number, more: TinyOptions, inference_tp_size = 1) {
  const told = new Map<number, readonly Sample[]>();
  const notes: string[] = [];
  const block = { ...hybrid_engine, inference_tp_size };
  const asked = { ...more, run: { samples }, deepspeed: { ...more.deepspeed, hybrid_engine: block } };
  const result = await trainer(name, workers, asked).fit({
    onProgress(event) {
      if (event.kind === 'samples') told.set(event.step, event.samples);
      if (event.kind === 'notes') notes.push(...event.notes);
    },
  });
  assert.deepEqual(notes, []);
  assert.deepEqual([...told.keys()], [4, STEPS]);
  using texts = await TextGenerator.open(result.model, { threads: 1 });
  const expected = await texts.generate(samples.prompts, { maxNewTokens: 10, doSample: false });
  assert.deepEqual(
    told.get(STEPS)!.map(({ prompt, text }) => [prompt, text]),
    expected.map(({ prompt, text }) => [samples.prompts[prompt], text]),
  );
  const quiet = await trainer(`${name}-quiet`, workers, more).fit();
  assert.deepEqual(result.losses, quiet.losses);
  return result;
}

test('workers that hold the whole model, and an adapter over it', async () => {
  const { model } = await expectAnswers('whole', 2, {});
  await expectAnswers('adapter', 1, { recipe: { model, lora: { r: 4, lora_alpha: 8 }, learningRate: 0.01 } });
});

test('workers that hold slices or stages', async () => {
  await expectAnswers('slices', 2, { zero: 3 });
  await expectAnswers('stages', 2, { scaling: { pipelineParallel: 2 } });
});

test('workers that generate two by two, with weights of their own or those that they train', async () => {
  await expectAnswers('pairs', 4, { zero: 3 }, 2);
  await expectAnswers('matrices', 2, { scaling: { tensorParallel: 2 } }, 2);
});

test('what cannot be is refused, and what changes nothing is told', async () => {
  const two = { deepspeed: { hybrid_engine: { enabled: true, inference_tp_size: 2 } } };
  await assert.rejects(trainer('two', 1, two).fit(), /inference_tp_size: expected a divisor of the 1 workers, got 2/);
  const notes: string[] = [];
  await trainer('idle', 1, { deepspeed: { hybrid_engine: { enabled: true } } }).fit({
    onProgress: (event) => event.kind === 'notes' && notes.push(...event.notes),
  });
  assert.match(notes.join(), /hybrid_engine has no effect: nothing is generated without run\.samples/);
});
