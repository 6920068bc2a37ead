// Text of sequences: characters cut in two by tokens, stop strings across them, and text as it comes.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { type Tokenizer, trainBpe } from '#src/data/index.js';
import { Generator, TextGenerator, TextStream } from '#src/infer/index.js';
import { modelFromConfig } from '#src/models/index.js';
import { withStore } from './model-for-tests.js';

/** Every token is one byte. */
const bytes = async (ids: readonly number[]) => new TextDecoder().decode(Uint8Array.from(ids));
const tokensOf = (text: string) => Array.from(new TextEncoder().encode(text));

/** What is told after each token, the end last. */
async function told(text: string, stopStrings: readonly string[] = [], includeStopString = false) {
  const stream = new TextStream(bytes, { stopStrings, includeStopString });
  const pieces: string[] = [];
  for (const id of tokensOf(text)) {
    await stream.push(id);
    pieces.push(stream.tell(false));
    if (stream.isStopped) break;
  }
  await stream.finish();
  return { pieces: [...pieces, stream.tell(true)], text: stream.text, isStopped: stream.isStopped };
}

test('a character is told when its last byte is there', async () => {
  assert.deepEqual((await told('aé€b')).pieces, ['a', '', 'é', '', '', '€', 'b', '']);
  const half = new TextStream(bytes, { stopStrings: [], includeStopString: false });
  await half.push(0xe2);
  assert.equal(half.tell(false), '');
  await half.finish();
  assert.equal(half.tell(true), '\uFFFD');
});

test('text ends before the first stop string, and nothing of it is told before that is known', async () => {
  const { pieces, text, isStopped } = await told('one\n\ntwo', ['\n\n###', '\n\nt']);
  assert.deepEqual([text, isStopped], ['one', true]);
  assert.deepEqual(pieces, ['o', 'n', 'e', '', '', '', '']);
  assert.equal((await told('one\n\ntwo', ['\n\nt'], true)).text, 'one\n\nt');
  const near = await told('aab', ['aac']);
  assert.deepEqual([near.text, near.pieces.join(''), near.isStopped], ['aab', 'aab', false]);
  assert.equal((await told('aaac', ['aac'])).text, 'a');
});

let tokenizer: Tokenizer;
before(() => {
  tokenizer = trainBpe(['the cat sat on the mat and the dog sat on the log'], { vocabSize: 300 });
});

const model = () =>
  modelFromConfig({
    model_type: 'gpt2',
    n_embd: 32,
    n_layer: 1,
    n_head: 2,
    n_positions: 64,
    vocab_size: tokenizer.vocabSize,
    initializer_range: 0.5,
  });

test('continuations as text: streamed, stopped inside a token, and the same as decoded at the end', () =>
  withStore(model(), async (store) => {
    using generator = new Generator({ model: model(), store, slots: 2, positions: 64 });
    const texts = new TextGenerator(generator, tokenizer);
    const options = { maxNewTokens: 24, temperature: 1, seed: 5 };
    const prompts = ['the cat', 'the dog sat'];
    const whole = await texts.generate(prompts, options);
    for (const { text, ids } of whole) assert.equal(text, await tokenizer.decode(ids, { skipSpecialTokens: true }));
    const streamed = ['', ''];
    for await (const event of texts.stream(prompts, options)) {
      streamed[event.kind === 'end' ? event.generation.prompt : event.prompt] += event.text;
    }
    assert.deepEqual(
      streamed,
      whole.map(({ text }) => text),
    );
    const { text } = whole[0]!;
    const stop = text.slice(6, 9);
    const [cut] = await texts.generate(prompts, { ...options, stopStrings: [stop, 'never said'] });
    assert.equal(cut!.text, text.slice(0, text.indexOf(stop)));
    assert.equal(cut!.end, 'stop');
    assert.ok(cut!.ids.length < whole[0]!.ids.length);
    await assert.rejects(texts.generate(prompts, { ...options, stopStrings: [''] }), /stopStrings/);
    await assert.rejects(texts.generate(prompts, { maxNewTokens: 2, numBeams: 2, stopStrings: ['x'] }), /stopStrings/);
    const beams = await texts.generate(prompts, { maxNewTokens: 6, numBeams: 2 });
    for (const beam of beams) assert.equal(beam.text, await tokenizer.decode(beam.ids, { skipSpecialTokens: true }));
  }));
