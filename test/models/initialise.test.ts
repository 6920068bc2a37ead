// First values: the normal distribution they are drawn from, and what they do not depend on.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { initialise, modelFromConfig } from '#src/models/index.js';
import { type Isa, native } from '#src/native/index.js';

const COUNT = 300_000;

function normal(threads: number, isa: Isa | null, key = 7): Float32Array {
  const values = new Float32Array(COUNT + 13);
  native().fillNormal(values, key, 9, 2, threads, isa);
  return values;
}

test('values are the same for any number of threads and every instruction set, and others for another key', () => {
  const one = normal(1, null);
  assert.deepEqual(normal(3, null), one);
  const isas: readonly Isa[] = ['scalar', 'avx2', 'avx512'];
  const best = isas.indexOf(native().engineInfo().isa);
  for (const isa of isas.slice(0, best + 1)) assert.deepEqual(normal(2, isa), one, isa);
  assert.notDeepEqual(normal(1, null, 8), one);
  const few = new Float32Array(100);
  native().fillNormal(few, 7, 9, 2, 4, null);
  assert.deepEqual(few, one.slice(0, 100), 'a shorter array has the same beginning');
});

test('values are normal: mean, spread, skew, tails and quantiles', () => {
  const values = normal(2, null).map((value) => value / 2);
  const moment = (power: number) => values.reduce((sum, value) => sum + value ** power, 0) / values.length;
  assert.ok(Math.abs(moment(1)) < 0.01);
  assert.ok(Math.abs(moment(2) - 1) < 0.015);
  assert.ok(Math.abs(moment(3)) < 0.03);
  assert.ok(Math.abs(moment(4) - 3) < 0.1);
  const sorted = values.toSorted();
  for (const [share, quantile] of [
    [0.001, -3.0902],
    [0.025, -1.96],
    [0.075, -1.4395],
    [0.25, -0.6745],
    [0.5, 0],
    [0.841345, 1],
    [0.97725, 2],
    [0.999, 3.0902],
  ] as const) {
    const found = sorted[Math.floor(share * sorted.length)]!;
    assert.ok(Math.abs(found - quantile) < 0.06, `${share}: ${found} for ${quantile}`);
  }
  assert.ok(sorted[0]! < -4 && sorted.at(-1)! > 4);
  assert.ok(Number.isFinite(sorted[0]) && Number.isFinite(sorted.at(-1)));
  const neighbours = values.reduce((sum, value, i) => sum + value * (values[i + 1] ?? 0), 0) / values.length;
  assert.ok(Math.abs(neighbours) < 0.01, 'neighbours are not correlated');
});

test('a model starts the same from equal seeds, and parameters of equal shape differ', () => {
  const model = modelFromConfig({
    model_type: 'gpt2',
    n_layer: 2,
    n_head: 2,
    n_embd: 8,
    n_positions: 16,
    vocab_size: 11,
  });
  const start = (seed: number) => {
    const weights = new Map<string, Float32Array>();
    initialise(model, seed, { load: (name, values) => void weights.set(name, values) });
    return weights;
  };
  assert.deepEqual(start(3), start(3));
  assert.notDeepEqual(start(3), start(4));
  const name = (layer: number) => `transformer.h.${layer}.attn.c_attn.weight`;
  assert.notDeepEqual(start(3).get(name(0)), start(3).get(name(1)));
});
