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
  'held back tokens': { repetitionPenalty: 1.3, minNewTokens: 4 },
  'drawn tokens': { doSample: true, seed: 5, temperature: 0.8, topK: 9, topP: 0.9, minP: 0.02, numReturnSequences: 2 },
  beams: { numBeams: 3 },
};

async function generations(store: ParameterStore): Promise<readonly (readonly Generation[])[]> {
  using generator = new Generator({ model, store, ...SETTINGS });
  const found: (readonly Generation[])[] = [];
  for (const way of Object.values(WAYS)) found.push(await generator.generate(PROMPTS, { maxNewTokens: 6, ...way }));
  return found;
}

/** The device, and what it was asked to keep a copy of on the host. */
function watched(device: NativeDevice): { readonly device: NativeDevice; readonly views: Set<ArrayBuffer> } {
  const views = new Set<ArrayBuffer>();
  const view = (buffer: number): ArrayBuffer => {
    const seen = device.view(buffer);
    views.add(seen);
    return seen;
  };
  return { device: Object.create(device, { view: { value: view } }) as NativeDevice, views };
}

test(`${CUDA.name} generates what the CPU does, and takes neither cache nor logits along to the host at every step`, async () => {
  let expected: readonly (readonly Generation[])[] = [];
  await withStore(model, async (store) => {
    expected = await generations(store);
  });
  const { device, views } = watched(CUDA.open());
  try {
    using store = new ParameterStore(device, layoutOf(model, 'f32'));
    initialise(model, 11, store);
    for (const [index, found] of (await generations(store)).entries()) {
      const ids = (all: readonly Generation[]) => all.map((each) => each.ids);
      assert.deepEqual(ids(found), ids(expected[index]!), Object.keys(WAYS)[index]);
      for (const [i, { logProbs }] of found.entries())
        for (const [t, value] of logProbs.entries())
          assert.ok(Math.abs(value - expected[index]![i]!.logProbs[t]!) < 1e-4);
    }
    const viewedBytes = [...views].reduce((sum, { byteLength }) => sum + byteLength, 0);
    assert.ok(viewedBytes < SETTINGS.slots * VOCABULARY * 4 + 4096, `${viewedBytes} bytes`);
  } finally {
    device.dispose();
  }
});
