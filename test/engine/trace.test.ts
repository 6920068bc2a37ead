// Numbers that are not finite where a micro-batch takes several ranks: all of them look at the step once more together, and the one that
// made the number names the op.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { meshOf, TrainStep } from '#src/engine/index.js';
import { initialise } from '#src/models/index.js';
import { native } from '#src/native/index.js';
import { CUDA, IS_GPU, openCuda } from '../support/devices.js';
import { held } from './device-for-tests.js';
import { joinMesh } from './meshes-for-tests.js';
import { labelled, OPTIMIZER, randomBatch, tinyLlama } from './models-for-tests.js';

const ROWS = 16;
const MICROS = 3;
const TABLE = 'model.embed_tokens.weight';

for (const [name, open] of [
  ['CPUs', () => native().createDevice({ threads: 2, isa: null, pin: false })],
  [CUDA.name, (rank: number) => openCuda(IS_GPU ? 0 : rank)],
] as const)
  test(`of two ranks on ${name} the one whose op made a NaN in the second micro-batch names it; the other one meets it later`, async () => {
    const mesh = meshOf({ data: 2 });
    const groups = await joinMesh(mesh);
    const origins = await Promise.all(
      groups.of.map(async (communicators, rank) => {
        using opened = held(open(rank));
        const model = tinyLlama();
        const strategy = { zeroStage: 2, mesh, rank } as const;
        const settings = { model, rows: ROWS, strategy, optimizer: OPTIMIZER, device: opened.device, communicators };
        await using step = TrainStep.create(settings);
        initialise(model, 4, step.parameters);
        const batches = Array.from({ length: MICROS }, (_, micro) => randomBatch([9, 5], ROWS, 30, `${micro} ${rank}`));
        const options = { scale: 1 / (2 * MICROS * labelled(batches[0]!)), step: 0 };
        await step.micros(batches, options);
        assert.ok(!(await step.update({ lr: 0, step: 1 })).isSkipped);
        assert.equal(await step.trace(batches, options), null);
        // A broken row of the table, which one micro-batch of one rank looks up.
        const values = step.readParameter(TABLE);
        values[30 * (values.length / 37)] = Number.POSITIVE_INFINITY;
        step.loadParameter(TABLE, values);
        if (rank === 1) batches[1]!.ids[3] = 30;
        await step.micros(batches, options);
        assert.ok((await step.update({ lr: 1e-2, step: 2 })).isSkipped);
        return step.trace(batches, options);
      }),
    ).finally(() => groups.dispose());
    const [other, own] = origins;
    assert.match(own!.message, /^instruction \d+ \(embedding, model(\.embed_tokens)?\): y\[\d+\] is not finite$/);
    assert.equal(own!.micro, 1);
    assert.ok(other!.micro === 1 && other!.instruction > own!.instruction, JSON.stringify(origins));
  });
