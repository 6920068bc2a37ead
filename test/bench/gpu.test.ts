// The suite `gpu` where there is no GPU to measure.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { modelFromConfig } from '#src/models/index.js';
import { nameOf, readShapes } from '../../bench/gpu/shapes.js';
import { EMULATED } from '../support/devices.js';

test('npm run bench -- gpu says what is missing, and measures nothing', () => {
  const env = { ...process.env, RAYLITE_CUDA_LIBRARY: '/nowhere/libraylite_cuda.so' };
  const { status, stdout, stderr } = spawnSync(process.execPath, ['build/tests/bench/run.js', 'gpu'], {
    env,
    encoding: 'utf8',
  });
  assert.equal(status, 2);
  assert.equal(stdout, '');
  assert.match(stderr, /the suite "gpu" measures a GPU: this build has no CUDA half: "npm run build:cuda" makes it/);
});

test("raylite's side of the suite prints every figure of its shapes, on the emulated GPU too", () => {
  const shapes = 'test/bench/tiny-gpu.json';
  const { status, stdout, stderr } = spawnSync(process.execPath, ['build/tests/bench/gpu/ours.js', shapes], {
    env: { ...process.env, RAYLITE_CUDA_LIBRARY: EMULATED },
    encoding: 'utf8',
  });
  assert.equal(status, 0, stderr);
  const rows: Readonly<Record<string, unknown>>[] = stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line));
  const { products, norms, attention, training, decoding } = readShapes(shapes);
  assert.deepEqual(
    rows.map(({ figure }) => figure),
    [
      ...products.map(nameOf.product),
      nameOf.copy,
      nameOf.adamw,
      ...norms.map(nameOf.norm),
      ...attention.map(nameOf.attention),
      ...decoding.sequences.map((count) => nameOf.decoding(decoding, count)),
      ...training.map(({ name }) => name),
    ],
  );
  for (const row of rows)
    for (const [name, value] of Object.entries(row))
      if (name !== 'side' && name !== 'figure') assert.ok(Number(value) > 0, `${row.figure}: ${name} is ${value}`);
  for (const { gibibytes, plannedGibibytes } of rows.slice(-training.length))
    assert.ok(Math.abs(Number(gibibytes) / Number(plannedGibibytes) - 1) < 0.1, `${gibibytes} of ${plannedGibibytes}`);
});

test('the figures of the suite are of models that exist: every shape compiles', () => {
  const { training, decoding } = readShapes('bench/gpu/shapes.json');
  for (const { config } of [...training, decoding]) modelFromConfig(config);
});
