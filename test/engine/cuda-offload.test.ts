// Offload from a GPU, real or emulated, to the memory of the host and to files: losses, norms, parameters and optimiser state are those of
// the same job on the same GPU without it, bit by bit. What the CPU's tests of offload are, for the device that has memory of its own.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { type FileSettings, type OptimizerOffload, PARAMETERS_ON_HOST } from '#src/engine/index.js';
import { temporaryFolder } from '../head/head-process.js';
import { IS_GPU, openCuda } from '../support/devices.js';
import { OPTIMIZER, tinyLlama } from './models-for-tests.js';
import { type OffloadJob, type Trace, trace } from './offloaded-job.js';

const folder = temporaryFolder();
after(() => folder[Symbol.dispose]());
const FILE: FileSettings = {
  folder: folder.path,
  blockBytes: 4096,
  queueDepth: 3,
  threads: 1,
  singleSubmit: false,
  overlapEvents: true,
};

const outcome = (traces: readonly Trace[]) =>
  traces.map(({ numbers, parameters, pieces }) => ({ numbers, parameters, pieces }));

/** Two ranks of one process wait for each other's GPU when they allocate: they are for the emulation. */
const RANKS = IS_GPU ? [1] : [1, 2];

const job = (more: Pick<OffloadJob, 'zeroStage' | 'ranks' | 'dtype'>): OffloadJob => ({
  model: tinyLlama,
  micros: 2,
  steps: 3, // put on streams, captured, replayed
  optimizer: OPTIMIZER,
  overflowAt: null,
  open: (rank) => openCuda(rank),
  ...more,
});

const OPTIMIZERS: Readonly<Record<string, OptimizerOffload>> = {
  'the host': { device: 'cpu', tileElements: 500 },
  'the host by half': { device: 'cpu', ratio: 0.5, tileElements: 500 },
  'a file': { device: 'nvme', tileElements: 500, file: FILE },
  'a file by half, with three pieces under way': {
    device: 'nvme',
    ratio: 0.5,
    tileElements: 256,
    slots: 3,
    file: FILE,
  },
};

for (const [where, optimizer] of Object.entries(OPTIMIZERS))
  test(`state of the optimizer that lies in ${where} is stepped as on the GPU`, async () => {
    for (const [zeroStage, ranks, dtype] of [
      [1, 1, 'f32'],
      [2, 1, 'bf16'],
      [2, 2, 'bf16'],
    ] as const) {
      if (!RANKS.includes(ranks)) continue;
      const expected = await trace(job({ zeroStage, ranks, dtype }), {});
      const found = await trace(job({ zeroStage, ranks, dtype }), { optimizer });
      assert.deepEqual(outcome(found), outcome(expected), `stage ${zeroStage}, ${ranks} ranks, ${dtype}`);
      for (const [rank, { memory, planned }] of found.entries()) {
        assert.equal(memory.hostBytes, planned.hostBytes);
        assert.ok(memory.deviceBytes < expected[rank]!.memory.deviceBytes);
        assert.equal(planned.diskBytes > 0, optimizer.device === 'nvme');
      }
    }
  });

for (const [where, offloadParam] of Object.entries({
  'the host': PARAMETERS_ON_HOST,
  'a file': { hostElementsMax: 0, buffers: 3, bufferElements: 1, file: FILE },
  both: { hostElementsMax: 3000, buffers: 1, bufferElements: 3000, file: FILE },
}))
  test(`parameters whose slices lie in ${where} change no bit, with the optimizer on the GPU and in a file`, async () => {
    for (const ranks of RANKS) {
      const plain = job({ zeroStage: 3, ranks, dtype: 'bf16' });
      const expected = outcome(await trace(plain, {}));
      for (const optimizer of [null, OPTIMIZERS['a file']!])
        assert.deepEqual(outcome(await trace({ ...plain, offloadParam }, { optimizer })), expected, `${ranks} ranks`);
    }
  });
