// `raylite generate` on a small model in a Hugging Face folder: prompts as arguments, from a file and from standard input.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { PLAIN_CHAT_TEMPLATE, Tokenizer, trainBpe } from '#src/data/index.js';
import { layoutOf, ParameterStore } from '#src/engine/index.js';
import { TextGenerator } from '#src/infer/index.js';
import { initialise, modelFromConfig, saveModel } from '#src/models/index.js';
import { native } from '#src/native/index.js';
import { CLI } from '../support/cli.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const EXAMPLE = resolve('build/tests/examples/generate/main.js');
const folder = temporaryFolder();
after(() => folder[Symbol.dispose]());

before(async () => {
  const plain = trainBpe(['the cat sat on the mat and the dog sat on the log'], { vocabSize: 300 });
  const tokenizer = new Tokenizer({ ...plain.files, 'chat_template.jinja': PLAIN_CHAT_TEMPLATE });
  await tokenizer.save(folder.path);
  const model = modelFromConfig({
    model_type: 'gpt2',
    n_embd: 32,
    n_layer: 1,
    n_head: 2,
    n_positions: 128,
    vocab_size: tokenizer.vocabSize,
    initializer_range: 0.5,
  });
  const device = native().createDevice({ threads: 1, isa: null, pin: false });
  using store = new ParameterStore(device, layoutOf(model));
  initialise(model, 1, store);
  await saveModel(folder.path, model, (name) => store.read(name));
});

interface Answer {
  readonly prompt: unknown;
  readonly text: string;
  readonly end: string;
  readonly score: number | null;
  readonly tokens: number;
}

function run(args: readonly string[], input = '') {
  const { stdout, stderr, status } = spawnSync(process.execPath, [CLI, 'generate', folder.path, ...args], {
    encoding: 'utf8',
    input,
  });
  return { out: stdout, err: stderr, status };
}

function answers(args: readonly string[], input = ''): readonly Answer[] {
  const { out, err, status } = run([...args, '--max-new-tokens', '12', '--json'], input);
  assert.equal(status, 0, err);
  return JSON.parse(out) as readonly Answer[];
}

test('prompts are the same as arguments, as lines of standard input and as lines of a file', () => {
  const given = answers(['the cat', 'the dog']);
  assert.deepEqual(
    given.map(({ prompt, tokens, end }) => [prompt, tokens, end]),
    [
      ['the cat', 12, 'length'],
      ['the dog', 12, 'length'],
    ],
  );
  assert.deepEqual(answers(['--file', '-'], 'the cat\n\nthe dog\n'), given);
  const file = join(folder.path, 'prompts.jsonl');
  writeFileSync(file, '{"prompt": "the cat"}\n{"prompt": "the dog"}\n');
  assert.deepEqual(answers(['--file', file]), given);
  writeFileSync(file, '{"messages": [{"role": "user", "content": "the cat"}]}\n');
  assert.deepEqual(
    answers(['--file', file]).map(({ text }) => text),
    answers(['the cat', '--template', 'chat']).map(({ text }) => text),
  );
});

test('a stop string cuts, beams have scores, draws follow the seed, a stream prints what would be printed at the end', () => {
  const [{ text }] = answers(['the cat']) as [Answer];
  const stop = text.slice(4, 7);
  const [cut] = answers(['the cat', '--stop', stop, 'never']) as [Answer];
  assert.deepEqual([cut.text, cut.end], [text.slice(0, text.indexOf(stop)), 'stop']);
  const beams = answers(['the cat', '--num-beams', '3', '--num-return-sequences', '2']);
  assert.ok(beams[0]!.score! >= beams[1]!.score!);
  const draw = (seed: string) =>
    answers(['the cat', '--temperature', '1.2', '--top-p', '0.9', '--num-return-sequences', '2', '--seed', seed]);
  assert.deepEqual(draw('1'), draw('1'));
  assert.notDeepEqual(draw('1'), draw('2'));
  assert.equal(run(['the cat', '--max-new-tokens', '12', '--stream']).out, `${text}\n`);
});

test('--dtype auto computes in the type that config.json names, as TextGenerator.open does', async () => {
  using other = temporaryFolder();
  const { path } = other;
  cpSync(folder.path, path, { recursive: true });
  const config = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8')) as Record<string, unknown>;
  const { dtype: _, ...older } = config;
  writeFileSync(join(path, 'config.json'), JSON.stringify({ ...older, torch_dtype: 'bfloat16' }));
  const score = (model: string, args: readonly string[]) => {
    const flags = ['the cat', '--num-beams', '2', '--max-new-tokens', '8', '--json', ...args];
    const { stdout, stderr } = spawnSync(process.execPath, [CLI, 'generate', model, ...flags], { encoding: 'utf8' });
    assert.equal(stderr, '');
    return (JSON.parse(stdout) as readonly Answer[])[0]!.score!;
  };
  const exact = score(folder.path, []);
  const halved = score(path, []);
  assert.notEqual(halved, exact);
  assert.ok(Math.abs(halved - exact) < 0.05);
  assert.equal(score(path, ['--dtype', 'f32']), exact);
  assert.equal(score(folder.path, ['--dtype', 'bf16']), halved);
  using texts = await TextGenerator.open(path, { threads: 1, positions: 64 });
  const [beam] = await texts.generate(['the cat'], { maxNewTokens: 8, numBeams: 2 });
  assert.equal(beam!.score, halved);
  writeFileSync(join(path, 'config.json'), JSON.stringify({ ...config, dtype: 'float64' }));
  const known = /config\.json\.dtype: expected one of float32, bfloat16, float16, got "float64"/;
  await assert.rejects(TextGenerator.open(path), known);
});

test('the example streams, searches and samples', () => {
  const { stdout, stderr, status } = spawnSync(process.execPath, [EXAMPLE, folder.path, 'the cat'], {
    encoding: 'utf8',
  });
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^stream ./m);
  assert.match(stdout, /^beam -\d+\.\d{3} ./m);
  assert.equal(stdout.match(/^sample -\d+\.\d{3} ./gm)?.length, 3);
});

test('mistakes are told before the model is loaded', () => {
  const fails = (args: readonly string[], message: RegExp, input = '') => {
    const { err, status } = run(args, input);
    assert.notEqual(status, 0);
    assert.match(err, message);
  };
  fails([], /--file: expected prompts as arguments or --file, one of them/);
  fails(['--file', '-'], /-: holds no prompt/);
  fails(['--file', '-'], /-:2: must have a text `prompt`/, 'fine\n{"text": 1}\n');
  fails(['a', 'b', '--stream'], /--stream: expected one prompt/);
  fails(['a', '--temperature', 'hot'], /--temperature/);
  fails(['a', '--top-p', '1.5'], /topP: expected a number above 0 and at most 1, got 1\.5/);
  fails(['a', '--dtype', 'int8'], /--dtype: expected one of auto, f32, bf16, f16/);
  fails(['a', '--cache', '1K'], /cacheBytes: expected at least \d+/);
});
