// `raylite train` as a user runs it: the example trains, and every mistake in file, data or numbers is told by place and step.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TrainingResult } from '#src/train/index.js';
import { CLI } from '../support/cli.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const EXAMPLE = 'examples/sft/sft.json';
const TOKENIZER = 'examples/sft/tokenizer';

type Recipe = Readonly<Record<string, unknown>>;
interface TrainingFile {
  readonly recipe: Recipe;
  readonly [key: string]: unknown;
}
const example = JSON.parse(readFileSync(EXAMPLE, 'utf8')) as TrainingFile;

/** `raylite VERB FLAGS`, with a home and a temporary folder of its own. */
function cli(home: string, ...args: readonly string[]) {
  return new Promise<{ readonly code: number | null; readonly out: string; readonly err: string }>(
    (resolve, reject) => {
      const { RAYLITE_ADDRESS: _address, RAYLITE_TOKEN: _token, ...environment } = process.env;
      const env = { ...environment, HOME: home, RAYLITE_TMPDIR: home };
      const child = spawn(process.execPath, [CLI, ...args], { env });
      let [out, err] = ['', ''];
      child.stdout.on('data', (chunk: Buffer) => {
        out += chunk;
      });
      child.stderr.on('data', (chunk: Buffer) => {
        err += chunk;
      });
      child.on('error', reject);
      child.on('close', (code) => resolve({ code, out, err }));
    },
  );
}

const train = (home: string, ...args: readonly string[]) => cli(home, 'train', ...args);

test('the example of the help trains and leaves a model', async () => {
  using home = temporaryFolder();
  const { code, out, err } = await train(home.path, EXAMPLE, '--json');
  assert.equal(code, 0, err);
  assert.match(err, /^120 sequences, \d+ tokens, packed into \d+ rows$/m);
  const { losses, model } = JSON.parse(out) as TrainingResult;
  assert.equal(losses.length, 20);
  assert.ok(losses.at(-1)! < losses[0]!);
  assert.ok(existsSync(join(model, 'model.safetensors')));
});

test('a YAML file trains too, shows what was measured on held-out records, and is told the line of a mistake', async () => {
  using home = temporaryFolder();
  const file = join(home.path, 'job.yaml');
  const records = Array.from(
    { length: 20 },
    (_unused, i) => `{"text": "${i % 2 ? 'up' : 'down'}", "label": "${i % 2}"}`,
  );
  writeFileSync(join(home.path, 'data.jsonl'), records.join('\n'));
  writeFileSync(
    file,
    `# a classifier of two words
recipe:
  kind: classify
  model: { kind: gpt2, layers: 1, hidden: 16, heads: 2 }
  tokenizer: ${TOKENIZER}
  data: ${join(home.path, 'data.jsonl')}
  sequenceLength: 16
  maxSteps: 2
`,
  );
  const { code, out, err } = await train(home.path, file);
  assert.equal(code, 0, err);
  assert.match(out, /^records: 2$/m);
  assert.match(out, /^accuracy: (0|1|0\.5000)$/m);
  writeFileSync(file, 'recipe:\n  kind: sft\n   data: x\n');
  const bad = await train(home.path, file);
  assert.notEqual(bad.code, 0);
  assert.match(bad.err, /job\.yaml:2:\d+: /);
});

test('the example of ZeRO stage 3 trains as that of stage 1, and its model is whole', async () => {
  using home = temporaryFolder();
  const [one, three] = await Promise.all(
    [EXAMPLE, 'examples/sft/zero-3.json'].map(async (file, index) => {
      const own = join(home.path, `${index}`);
      mkdirSync(own);
      const { code, out, err } = await train(own, file, '--json');
      assert.equal(code, 0, err);
      assert.doesNotMatch(err, /has no effect/);
      return JSON.parse(out) as TrainingResult;
    }),
  );
  for (const [step, loss] of three!.losses.entries()) assert.ok(Math.abs(loss - one!.losses[step]!) < 1e-4, `${step}`);
  assert.ok(three!.metrics.memory.parameterBytes < 0.6 * one!.metrics.memory.parameterBytes);
  const sizes = [one!, three!].map(({ model }) => readFileSync(join(model, 'model.safetensors')).length);
  assert.equal(sizes[1], sizes[0]);
});

test('the example of shared matrices and rows trains to the losses of one worker, with less of everything on each', async () => {
  using home = temporaryFolder();
  const job = JSON.parse(readFileSync('examples/sft/tensor-parallel.json', 'utf8'));
  const {
    tensor_parallel: _tensor,
    sequence_parallel_size: _rows,
    ...deepspeed
  } = JSON.parse(readFileSync(job.deepspeed, 'utf8'));
  const plain = join(home.path, 'plain.json');
  writeFileSync(plain, JSON.stringify({ ...job, deepspeed, scaling: { workers: 1 } }));
  const [shared, one] = await Promise.all(
    ['examples/sft/tensor-parallel.json', plain].map(async (file, index) => {
      const own = join(home.path, `${index}`);
      mkdirSync(own);
      const { code, out, err } = await train(own, file, '--json');
      assert.equal(code, 0, err);
      return JSON.parse(out) as TrainingResult;
    }),
  );
  for (const [step, loss] of shared!.losses.entries()) assert.ok(Math.abs(loss - one!.losses[step]!) < 1e-4, `${step}`);
  const [mine, all] = [shared!, one!].map(({ metrics }) => metrics.memory);
  assert.ok(mine!.parameterBytes < 0.6 * all!.parameterBytes);
  assert.ok(mine!.optimizerBytes < 0.3 * all!.optimizerBytes); // also cut between those that share rows
  assert.ok(mine!.activationBytes < 0.6 * all!.activationBytes);
  const estimated = await cli(home.path, 'estimate', 'examples/sft/tensor-parallel.json');
  assert.match(estimated.out, /^2 workers share each matrix, 2 the rows of a micro-batch; 1 data parallel$/m);
});

test('the example of a range of workers starts with those that the machine has room for, to the losses of one', async () => {
  using home = temporaryFolder();
  const file = 'examples/sft/elastic.json';
  const job = JSON.parse(readFileSync(file, 'utf8'));
  const plain = join(home.path, 'plain.json');
  writeFileSync(plain, JSON.stringify({ ...job, scaling: { workers: 1 } }));
  const found = [];
  for (const [index, each] of [file, plain].entries()) {
    const own = join(home.path, `${index}`);
    mkdirSync(own);
    const { code, out, err } = await train(own, each, '--json');
    assert.equal(code, 0, err);
    found.push({ err, result: JSON.parse(out) as TrainingResult });
  }
  const cores = availableParallelism();
  const expected = cores < 2 ? 'one worker' : `${cores < 4 ? 2 : 4} workers in shared memory`;
  assert.ok(found[0]!.err.includes(expected), found[0]!.err);
  for (const [step, loss] of found[0]!.result.losses.entries())
    assert.ok(Math.abs(loss - found[1]!.result.losses[step]!) < 1e-4, `${step}`);
  // Where each needs most: by one of them.
  assert.match((await cli(home.path, 'estimate', file)).out, /1 worker, ZeRO stage 1/);
});

test('the example that holds records out ends early, and leaves the best of its models', async () => {
  using home = temporaryFolder();
  const { code, out, err } = await train(home.path, 'examples/sft/evaluation.json');
  assert.equal(code, 0, err);
  const told = [
    ...err.matchAll(/^after step (\d+): held-out loss ([\d.]+) \(perplexity [\d.]+\)(, the best so far)?$/gm),
  ];
  const [, step, loss] = told.findLast(([, , , best]) => best)!;
  assert.match(
    err,
    new RegExp(`^note: The run ends after \\d+ of 60 steps: nothing .* since step ${step} is better$`, 'm'),
  );
  assert.match(out, new RegExp(`^loss: ${loss}$`, 'm'));
  assert.match(out, new RegExp(`^Best held-out loss ${loss}, after step ${step}$`, 'm'));
});

test('the example of a pipeline says how long its stages waited, and what a stage needs', async () => {
  using home = temporaryFolder();
  const { code, out, err } = await train(home.path, 'examples/sft/pipeline.json');
  assert.equal(code, 0, err);
  assert.match(
    out,
    /^Pipeline of 2 stages, 8 micro-batches a step: stages waited [\d.]+ % of it \(11\.1 % by the schedule\)$/m,
  );
  const estimated = await cli(home.path, 'estimate', 'examples/sft/pipeline.json');
  assert.match(
    estimated.out,
    /^2 stages, 8 micro-batches a step: stages wait 11\.1 % of it; stage 0 needs most and keeps 2 × [\d.]+ kB of activations$/m,
  );
});

/** Figures of an example that offloads, and of the same without; both must have the same losses, to the bit. */
async function offloadedAndKept(example: string) {
  using home = temporaryFolder();
  const job = JSON.parse(readFileSync(example, 'utf8'));
  const { zero_optimization: zero, ...deepspeed } = JSON.parse(readFileSync(job.deepspeed, 'utf8'));
  const { offload_param: _, offload_optimizer, ...stage } = zero;
  const plain = join(home.path, 'plain.json');
  writeFileSync(plain, JSON.stringify({ ...job, deepspeed: { ...deepspeed, zero_optimization: stage } }));
  const [moved, kept] = await Promise.all(
    [example, plain].map(async (file, index) => {
      const own = join(home.path, `${index}`);
      mkdirSync(own);
      const { code, out, err } = await train(own, file, '--json');
      assert.equal(code, 0, err);
      assert.doesNotMatch(err, /has no effect/);
      return JSON.parse(out) as TrainingResult;
    }),
  );
  assert.deepEqual(moved!.losses, kept!.losses);
  assert.deepEqual(readdirSync(join(offload_optimizer.nvme_path, 'raylite-offload')), []);
  return { there: moved!.metrics.memory, here: kept!.metrics.memory };
}

test('the example of an offloaded optimizer trains as without, to the bit, and says what lies where', async () => {
  const { there, here } = await offloadedAndKept('examples/sft/offload.json');
  assert.equal(there.optimizerBytes, 0);
  assert.ok(there.diskBytes >= here.optimizerBytes);
  assert.equal(there.measuredHostBytes, there.hostBytes);
  assert.ok(there.measuredBytes < here.measuredBytes - here.optimizerBytes);
});

test('the example of parameters on disk trains as without, to the bit, with what persists alone on the device', async () => {
  const { there, here } = await offloadedAndKept('examples/sft/offload-param.json');
  assert.ok(there.parameterBytes < here.parameterBytes / 10, `${there.parameterBytes} of ${here.parameterBytes}`);
  assert.ok(there.diskBytes >= here.optimizerBytes + here.parameterBytes - there.parameterBytes);
  assert.equal(there.measuredHostBytes, there.hostBytes);
  assert.ok(there.measuredBytes < here.measuredBytes - here.optimizerBytes);
});

test('a profile is a table by time beside the limits, and the same numbers as JSON', async () => {
  using home = temporaryFolder();
  const shown = await train(home.path, EXAMPLE, '--profile');
  assert.equal(shown.code, 0, shown.err);
  assert.match(
    shown.out,
    /^5 steps of [\d.]+ ms; limits now: [\d.]+ GFLOP\/s \(bf16 [\d.]+ \w?FLOP\/s\), [\d.]+ \w?B\/s$/m,
  );
  assert.match(shown.out, /^instruction +count +ms +share +arithmetic +memory +of limit$/m);
  assert.match(shown.out, /^linear +\d+ +[\d.]+ +[\d.]+ % +[\d.]+ MFLOP +[\d.]+ MB +\d+ %$/m);
  assert.match(shown.out, /^worker 1: [\d.]+ ms a step, exchanges [\d.]+ ms, [\d.]+ ms of it exposed$/m);
  const { out } = await train(home.path, EXAMPLE, '--profile', '--json');
  const { profiles } = JSON.parse(out) as TrainingResult;
  assert.equal(profiles?.length, 2);
  const seconds = profiles[0]!.kinds.map((kind) => kind.seconds);
  assert.deepEqual(
    seconds,
    seconds.toSorted((a, b) => b - a),
  );
  assert.ok(profiles[0]!.exposedCommunicationSeconds <= profiles[0]!.communicationSeconds);
});

const answer = (output: string, instruction = 'Say it.') => ({ instruction, input: '', output });
const long = 'word '.repeat(300);

/** The example with this recipe and these records, on one worker. */
function changed(folder: string, recipe: Recipe, records: readonly object[] | null): string {
  const data = join(folder, 'records.jsonl');
  if (records) writeFileSync(data, records.map((record) => `${JSON.stringify(record)}\n`).join(''));
  const file = join(folder, 'job.json');
  const own = { ...example.recipe, maxSteps: 3, ...(records ? { data } : {}), ...recipe };
  writeFileSync(file, JSON.stringify({ ...example, recipe: own, scaling: { workers: 1 } }));
  return file;
}

for (const { name, recipe = {}, records = null, words } of [
  {
    name: 'a sequence length above the positions',
    recipe: { model: { ...(example.recipe.model as object), maxPositions: 64 } },
    words: /sft\.sequenceLength: expected at most the model's 64 positions, got 128/,
  },
  {
    name: 'an answer of nothing',
    records: [answer('yes'), answer('')],
    words: /records\.jsonl:2: has no token to train on: the answer is empty\. Give it one, or leave/,
  },
  {
    name: 'a prompt that fills the sequence',
    records: [answer('yes', long)],
    words: /records\.jsonl:1: has no token to train on: the prompt alone fills the 128 tokens/,
  },
  {
    name: 'a loss that is not finite',
    recipe: { learningRate: 1e30 },
    words: /step 2: the loss is NaN and .* at examples\/sft\/records\.jsonl:\d+ \(row \d+\), first in instruction \d+/,
  },
  { name: 'data left out', recipe: { data: null }, words: /sft\.data: expected a file, an http/ },
]) {
  test(`${name} ends with one clear line and exit code 1`, async () => {
    using home = temporaryFolder();
    const { code, err } = await train(home.path, changed(home.path, recipe, records));
    assert.match(err, words);
    assert.equal(code, 1);
    assert.ok(!/\n\s+at |unexpected/.test(err), err);
  });
}

test('a model that the machine has no room for is refused before it is allocated', async () => {
  using home = temporaryFolder();
  const model = { kind: 'gpt2', layers: 40, hidden: 32768, heads: 64 };
  const { code, err } = await train(home.path, changed(home.path, { model }, null));
  assert.match(
    err,
    /node \w+ has .* of free memory, and 1 worker of this run needs [\d.]+ TiB\. Set scaling\.memoryMiBPerWorker/,
  );
  assert.equal(code, 1);
});

test('a token that the model does not know is told with its record, before workers start', async () => {
  using home = temporaryFolder();
  const tokenizer = join(home.path, 'tokenizer');
  mkdirSync(tokenizer);
  for (const name of ['tokenizer.json', 'tokenizer_config.json'])
    writeFileSync(join(tokenizer, name), readFileSync(join(TOKENIZER, name)));
  const file = join(tokenizer, 'tokenizer.json');
  const json = JSON.parse(readFileSync(file, 'utf8')) as { readonly model: { readonly vocab: Record<string, number> } };
  json.model.vocab['!'] = 5000;
  writeFileSync(file, JSON.stringify(json));
  const { code, err } = await train(home.path, changed(home.path, { tokenizer }, [answer('yes'), answer('yes!')]));
  assert.match(err, /records\.jsonl:2: token \d+ has the id 5000, the model knows 0 to 511\. Is the tokenizer/);
  assert.equal(code, 1);
});

test('records longer than a sequence are cut, and how many is told once', async () => {
  using home = temporaryFolder();
  const { code, err } = await train(home.path, changed(home.path, {}, [answer(long), answer('yes')]));
  assert.equal(code, 0, err);
  assert.equal(err.match(/1 cut to the sequence length/g)?.length, 1);
});

test('a file that is no training file is refused by name', async () => {
  using home = temporaryFolder();
  const file = join(home.path, 'job.json');
  writeFileSync(file, 'null');
  const { code, err } = await train(home.path, file);
  assert.match(err, /job\.json: expected an object with "recipe"/);
  assert.equal(code, 1);
});
