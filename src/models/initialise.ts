// First values of a model trained from scratch. Each parameter draws from a generator seeded by the run's seed and its own
// name, so that values depend on neither order nor rank.
import { createHash } from 'node:crypto';
import {
  type AnyModel,
  elementCount,
  fillNormal,
  type Parameter,
  parameterGraph,
  type WeightTarget,
} from '../engine/index.js';

/** Hands first values of every parameter that the target has to `target.load`. Equal seeds give equal models. */
export function initialise(model: AnyModel, seed: number, target: WeightTarget): void {
  for (const parameter of parameterGraph(model).parameters.values())
    if (target.has?.(parameter.name) ?? true) target.load(parameter.name, initialValues(parameter, seed));
}

/** First values of one parameter. */
export function initialValues({ name, dims, init }: Parameter, seed: number): Float32Array {
  const values = new Float32Array(elementCount(dims));
  if (init.kind === 'normal') fillNormal(values, `${seed}/${name}`, init.std);
  else if (init.kind === 'ones') values.fill(1);
  return values;
}

/** Uniform numbers in [0, 1) from a text seed: xoshiro128** (Blackman, Vigna 2018), started from a sha256. */
export function seededRandom(seed: string): () => number {
  const digest = createHash('sha256').update(seed).digest();
  let a = digest.readInt32LE(0);
  let b = digest.readInt32LE(4);
  let c = digest.readInt32LE(8);
  let d = digest.readInt32LE(12) | 1; // the state must not be all zeros
  return () => {
    const scrambled = Math.imul(rotate(Math.imul(b, 5), 7), 9);
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = rotate(d, 11);
    return (scrambled >>> 0) / 2 ** 32;
  };
}

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}
