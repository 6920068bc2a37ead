// cuDNN's own plans for the attention of models on an H200 that is not here: its heuristics and its compiler run, over a stand-in of the driver and the
// properties of the device. Where the CUDA half was not built with cuDNN, or its package is not there, there is nothing to test.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { CudaAttentionShape } from '#src/native/index.js';
import { cudaPackages, makeDriverStub } from '../support/cuda-packages.js';

const H200 = {
  ...{
    cudaDeviceId: 0,
    pciDeviceId: 0,
    name: 'NVIDIA H200',
    deviceName: 'NVIDIA H200',
    deviceVer: 900,
    driverVer: 13000,
  },
  ...{ multiProcessorCount: 132, smClockRateKHz: 1980000, memClockRateKHz: 3201000, totalGlobalMem: 150754820096 },
  ...{ maxGridSize: [2147483647, 65535, 65535], maxBlockSize: [1024, 1024, 64], maxCtasPerSM: 32, warpSize: 32 },
  ...{ regsPerBlock: 65536, maxRegistersPerSM: 65536, maxThreadsPerBlock: 1024, maxThreadsPerSM: 2048 },
  ...{ l2CacheSize: 62914560, maxSharedMemoryPerBlock: 49152, maxSharedMemoryPerBlockOptin: 232448 },
  ...{ reservedSharedMemoryPerBlock: 1024, isTccDriver: 0, supportCoopLaunch: 1 },
};

const shape = (heads: number, kvHeads: number, headDim: number, segments: number, rows: number) => ({
  ...{ type: 'bf16', isBackward: false, segments, rows, heads, kvHeads, headDim },
  ...{ layout: 'apart', isCausal: true, window: 0 },
});
type Shape = Omit<CudaAttentionShape, 'type' | 'layout'> & { readonly type: string; readonly layout: string };

const TAKEN: Readonly<Record<string, Shape>> = {
  'GPT-2': { ...shape(12, 12, 64, 8, 1024), layout: 'fused' },
  'GPT-2 in f16': { ...shape(25, 25, 64, 4, 1024), layout: 'fused', type: 'f16' },
  'Pythia 2.8B': { ...shape(32, 32, 80, 4, 2048), layout: 'interleaved' },
  'Llama 8B': shape(32, 8, 128, 4, 2048),
  'Llama 8B, 8,192 tokens': shape(32, 8, 128, 1, 8192),
  'Qwen 7B, q, k and v side by side': { ...shape(28, 4, 128, 2, 4096), layout: 'fused' },
  'Mistral with a window': { ...shape(32, 8, 128, 1, 8192), window: 4096 },
  'a window both ways': { ...shape(12, 12, 64, 4, 1024), isCausal: false, window: 128 },
  BERT: { ...shape(12, 12, 64, 16, 512), isCausal: false },
  'heads of 256': shape(8, 4, 256, 2, 2048),
};
const REFUSED: Readonly<Record<string, Shape>> = {
  'heads of 60': shape(4, 4, 60, 1, 1024),
};

const packages = cudaPackages();
const CUDNN = `${packages}/nvidia/cudnn/lib`;
const missing = !existsSync('build/native/libraylite_cuda.so')
  ? 'the CUDA half was not built'
  : !existsSync(CUDNN)
    ? 'the package of cuDNN is not installed'
    : false;

test('cuDNN plans the attention of models and its gradient on an H200', { skip: missing }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'raylite-driver-'));
  try {
    makeDriverStub(packages!, folder);
    const both = [TAKEN, REFUSED].flatMap((shapes) =>
      Object.entries(shapes).flatMap(([name, shape]) =>
        [false, true].map((isBackward) => ({ name, isTaken: shapes === TAKEN, shape: { ...shape, isBackward } })),
      ),
    );
    const { stdout, stderr, status } = spawnSync(
      process.execPath,
      [fileURLToPath(new URL('./attention-plans-child.js', import.meta.url))],
      {
        encoding: 'utf8',
        input: JSON.stringify({ device: H200, shapes: both.map(({ shape }) => shape) }),
        env: {
          ...process.env,
          LD_LIBRARY_PATH: folder,
          RAYLITE_CUDA_LIBRARIES: `${packages}/nvidia/cu13/lib:${CUDNN}`,
        },
      },
    );
    assert.equal(status, 0, stderr);
    const planned: { bytes?: number; refused?: string }[] = JSON.parse(stdout);
    for (const [at, { name, isTaken, shape }] of both.entries()) {
      const { bytes, refused } = planned[at]!;
      const what = `${name}${shape.isBackward ? ', gradient' : ''}: ${refused ?? bytes}`;
      if (isTaken) assert.ok(bytes !== undefined, what);
      else assert.match(refused ?? '', /^cuDNN: .*hidden_dim/, what);
      // What the gradient adds up in f32 is the largest part.
      if (isTaken && shape.isBackward)
        assert.ok(bytes! < 16 * shape.segments * shape.rows * shape.heads * shape.headDim + 2 ** 20, what);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
