// Decoding on an emulated or a real GPU: what the CPU finds, whether tokens are taken, drawn or searched for; and what stays on the device.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { layoutOf, ParameterStore } from '#src/engine/index.js';
import { type GenerateOptions, type Generation, Generator } from '#src/infer/index.js';
import { initialise } from '#src/models/index.js';
import type { NativeDevice } from '#src/native/index.js';
import { CUDA } from '../support/devices.js';
import { longModel, VOCABULARY, withStore } from './model-for-tests.js';

const model = longModel('llama');
const SETTINGS = { slots: 4, positions: 200, prefillRows: 50 };
const PROMPTS = [3, 64, 70].map((length) => Array.from({ length }, (_, t) => (t * 7 + length) % VOCABULARY));
const WAYS: Readonly<Record<string, Partial<GenerateOptions>>> = {
  'the likeliest tokens': { topLogProbs: 2 },
  'held back tokens': { repetitionPenalty: 1.3, minNewTokens: 4, noRepeatNgramSize: 2 },
  'drawn tokens': { doSample: true, seed: 5, temperature: 0.8, topK: 9, topP: 0.9, minP: 0.02, numReturnSequences: 2 },
  'drawn tokens, long': {
    temperature: 1.2,
    seed: -7,
    repetitionPenalty: 1.1,
    badWordsIds: [[1], [4, 5]],
    maxNewTokens: 70,
  },
  'tokens that the host draws': { typicalP: 0.9 },
  beams: { numBeams: 3 },
};

/** Ways by which the host sees logits. */
const SEES = new Set(['the likeliest tokens', 'tokens that the host draws', 'beams']);

async function generations(
  store: ParameterStore,
  began: (way: string) => void = () => {},
): Promise<readonly (readonly Generation[])[]> {
  using generator = new Generator({ model, store, ...SETTINGS });
  const found: (readonly Generation[])[] = [];
  for (const [name, way] of Object.entries(WAYS)) {
    began(name);
    found.push(await generator.generate(PROMPTS, { maxNewTokens: 6, ...way }));
  }
  return found;
}

interface Watched {
  readonly device: NativeDevice;
  /** What it was asked to keep a copy of on the host. */
  readonly views: Set<ArrayBuffer>;
  /** Bytes that were read past the views. */
  readonly readBytes: () => number;
}

function watched(device: NativeDevice): Watched {
  const views = new Set<ArrayBuffer>();
  let readBytes = 0;
  const view = (buffer: number): ArrayBuffer => {
    const seen = device.view(buffer);
    views.add(seen);
    return seen;
  };
  const read = (buffer: number, offset: number, bytes: Uint8Array): void => {
    readBytes += bytes.length;
    device.read(buffer, offset, bytes);
  };
  const watching = Object.create(device, { view: { value: view }, read: { value: read } }) as NativeDevice;
  return { device: watching, views, readBytes: () => readBytes };
}

test(`${CUDA.name} generates what the CPU does, and takes neither cache nor logits along to the host at every step`, async () => {
  let expected: readonly (readonly Generation[])[] = [];
  await withStore(model, async (store) => {
    expected = await generations(store);
  });
  const { device, views, readBytes } = watched(CUDA.open());
  const readIn = new Map<string, number>();
  try {
    using store = new ParameterStore(device, layoutOf(model, 'f32'));
    initialise(model, 11, store);
    const found = await generations(store, (way) => readIn.set(way, readBytes()));
    for (const [index, own] of found.entries()) {
      const ids = (all: readonly Generation[]) => all.map((each) => each.ids);
      assert.deepEqual(ids(own), ids(expected[index]!), Object.keys(WAYS)[index]);
      for (const [i, { logProbs }] of own.entries())
        for (const [t, value] of logProbs.entries())
          assert.ok(Math.abs(value - expected[index]![i]!.logProbs[t]!) < 1e-4);
    }
    const reads = [...readIn.values(), readBytes()];
    for (const [index, name] of [...readIn.keys()].entries())
      assert.equal(reads[index + 1]! > reads[index]!, SEES.has(name), `logits on the host: ${name}`);
    const viewedBytes = [...views].reduce((sum, { byteLength }) => sum + byteLength, 0);
    assert.ok(viewedBytes < SETTINGS.slots * VOCABULARY * 4 + 8192, `${viewedBytes} bytes`);
  } finally {
    device.dispose();
  }
});
