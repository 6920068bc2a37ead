// Weights of a folder in a tensor group: each rank reads what it holds and no more, into parameters and masters, and all together give
// the folder back.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type FloatType, meshOf, TrainStep, type ZeroStage } from '#src/engine/index.js';
import { Checkpoint, initialise, modelFromConfig, saveModel } from '#src/models/index.js';
import { openDevice } from './device-for-tests.js';
import { joinMesh, SMOOTH } from './meshes-for-tests.js';

const model = () =>
  modelFromConfig({ model_type: 'gpt2', n_layer: 2, n_head: 4, n_embd: 256, n_positions: 64, vocab_size: 1001 });

const bytesRead = (): number => Number(/rchar: (\d+)/.exec(readFileSync('/proc/self/io', 'utf8'))![1]);

test('ranks read what they hold, and gather what the folder has', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'raylite-shards-'));
  const mesh = meshOf({ tensor: 2, data: 2 });
  const groups = await joinMesh(mesh);
  try {
    const first = new Map<string, Float32Array>();
    initialise(model(), 7, { load: (name, values) => first.set(name, values) });
    await saveModel(folder, model(), (name) => first.get(name)!);
    for (const [zeroStage, dtype] of [
      [0, 'f32'],
      [3, 'f32'],
      [1, 'bf16'],
    ] as const satisfies readonly (readonly [ZeroStage, FloatType])[]) {
      const whole = new Map<string, Float32Array>();
      let mostRead = 0;
      const ranks = await Promise.all(
        groups.of.map(async (communicators, rank) => {
          const opened = openDevice(1);
          const strategy = { zeroStage, mesh, rank };
          const common = { model: model(), rows: 16, strategy, optimizer: SMOOTH, dtype };
          return { opened, step: TrainStep.create({ ...common, device: opened.device, communicators }) };
        }),
      );
      for (const { step } of ranks) {
        await using checkpoint = await Checkpoint.open(folder);
        for (const name of checkpoint.parameters.keys()) whole.set(name, await checkpoint.read(name));
        const before = bytesRead();
        await checkpoint.loadInto(step.parameters);
        mostRead = Math.max(mostRead, bytesRead() - before);
      }
      const total = [...whole.values()].reduce((sum, { length }) => sum + 4 * length, 0);
      // Small parameters stay whole; masters are read beside what they are the masters of.
      const share = zeroStage === 3 ? 0.35 : dtype === 'bf16' ? 0.8 : 0.55;
      assert.ok(mostRead < share * total, `${mostRead} of ${total} bytes at stage ${zeroStage}`);
      await Promise.all(
        ranks.map(async ({ step }) => {
          for (const [name, values] of whole) {
            const found = await step.gatherParameter(name);
            const limit = dtype === 'f32' ? 0 : 2 ** -8;
            for (const [i, value] of values.entries())
              assert.ok(Math.abs(found[i]! - value) <= limit * Math.abs(value), `${name}[${i}]`);
          }
        }),
      );
      for (const { opened, step } of ranks) {
        await step[Symbol.asyncDispose]();
        opened[Symbol.dispose]();
      }
    }
  } finally {
    groups.dispose();
    rmSync(folder, { recursive: true });
  }
});
