// Offload from a GPU, real or emulated, to the memory of the host and to files. The host steps what lies there by the CPU's kernels. Made to
// round as the emulated GPU does (by the scalar ones), it leaves the parameters and the state of the same job on the same GPU without, bit by
// bit, and norms up to the order of their sums; by the best ones, the same bits wherever and in whatever pieces.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { type FileSettings, type OptimizerOffload, PARAMETERS_ON_HOST } from '#src/engine/index.js';
import { EMULATED, IS_GPU, openCuda, openEmulated } from '../support/devices.js';
import { temporaryFolder } from '../support/temporary-folder.js';
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

/** Clipping would bring the norm's rounding to all parameters. */
const UNCLIPPED = { ...OPTIMIZER, maxGradientNorm: 0 };

const exact = (traces: readonly Trace[]) => traces.map(({ parameters, pieces }) => ({ parameters, pieces }));
const outcome = (traces: readonly Trace[]) =>
  traces.map(({ numbers, parameters, pieces }) => ({ numbers, parameters, pieces }));

function assertSame(found: readonly Trace[], expected: readonly Trace[], what: string): void {
  if (!IS_GPU) assert.deepEqual(exact(found), exact(expected), what);
  // A GPU makes one rounding of a product and a sum where the CPU may make two.
  const tolerance = IS_GPU ? 1e-2 : 1e-6;
  for (const [rank, { numbers }] of found.entries())
    for (const [index, number] of numbers.entries()) {
      const other = expected[rank]!.numbers[index]!;
      const error = Math.abs(Number(number) - Number(other)) / Math.max(1, Math.abs(Number(other)));
      assert.ok(error < tolerance, `${what}: ${number} in place of ${other}`);
    }
}

/** Two ranks of one process wait for each other's GPU when they allocate: they are for the emulation. */
const RANKS = IS_GPU ? [1] : [1, 2];

const job = (more: Pick<OffloadJob, 'zeroStage' | 'ranks' | 'dtype'>): OffloadJob => ({
  model: tinyLlama,
  micros: 2,
  steps: 3, // put on streams, captured, replayed
  optimizer: UNCLIPPED,
  overflowAt: null,
  open: (rank) => (IS_GPU ? openCuda(rank) : openEmulated(rank, EMULATED, 'own', { threads: 2, isa: 'scalar' })),
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
  test(`state of the optimizer that lies in ${where} is stepped on the host as on the GPU`, async () => {
    for (const [zeroStage, ranks, dtype] of [
      [1, 1, 'f32'],
      [2, 1, 'bf16'],
      [2, 2, 'bf16'],
    ] as const) {
      if (!RANKS.includes(ranks)) continue;
      const expected = await trace(job({ zeroStage, ranks, dtype }), {});
      const found = await trace(job({ zeroStage, ranks, dtype }), { optimizer });
      assertSame(found, expected, `stage ${zeroStage}, ${ranks} ranks, ${dtype}`);
      for (const [rank, { memory, planned }] of found.entries()) {
        assert.equal(memory.hostBytes, planned.hostBytes);
        assert.ok(memory.deviceBytes < expected[rank]!.memory.deviceBytes);
        assert.equal(planned.diskBytes > 0, optimizer.device === 'nvme');
      }
    }
  });

test('what is offloaded is stepped to the same bits in memory and in files, in whatever pieces, clipped or not, each time', async () => {
  for (const ranks of RANKS)
    for (const ratio of [0.5, 1]) {
      const best = { ...job({ zeroStage: 2, ranks, dtype: 'bf16' }), optimizer: OPTIMIZER, open: openCuda };
      const expected = outcome(await trace(best, { optimizer: { device: 'cpu', ratio, tileElements: 500 } }));
      for (const other of [
        { device: 'cpu', ratio, tileElements: 500 },
        { device: 'cpu', ratio, tileElements: 96, slots: 3 },
        { device: 'nvme', ratio, tileElements: 500, file: FILE },
      ] as const)
        assert.deepEqual(
          outcome(await trace(best, { optimizer: other })),
          expected,
          `${other.device}, ratio ${ratio}, ${ranks} ranks`,
        );
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
      const expected = await trace(plain, {});
      for (const optimizer of [null, OPTIMIZERS['a file']!]) {
        const found = await trace({ ...plain, offloadParam }, { optimizer });
        if (optimizer) assertSame(found, expected, `${ranks} ranks`);
        else assert.deepEqual(outcome(found), outcome(expected), `${ranks} ranks`);
      }
    }
  });
