// The CUDA half as nvcc made it: what its kernels take of a processor, read out of the machine code, and that it needs nothing of a
// machine without a GPU. Where it was not built (`npm run build:cuda`) there is nothing to test.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { native } from '#src/native/index.js';
import { cudaPackages } from '../support/cuda-packages.js';

const LIBRARY = 'build/native/libraylite_cuda.so';
const CUOBJDUMP = `${cudaPackages()}/nvidia/cu13/bin/cuobjdump`;

interface Usage {
  readonly name: string;
  readonly registers: number;
  /** Bytes of each thread in memory: arrays that are indexed by what is not known, and registers that were spilled. */
  readonly stackBytes: number;
}

function usages(): readonly Usage[] {
  const { stdout, status, stderr } = spawnSync(CUOBJDUMP, ['-res-usage', LIBRARY], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  assert.equal(status, 0, stderr);
  return [...stdout.matchAll(/Function (\S+):\s*REG:(\d+) STACK:(\d+)/g)].map(([, name, registers, stack]) => ({
    name: name!,
    registers: Number(registers),
    stackBytes: Number(stack),
  }));
}

/** What ptxas said when it made the kernels: for which processor, and how many bytes of a thread it put into memory. */
function reports(): readonly { readonly name: string; readonly processor: string; readonly stackBytes: number }[] {
  const report =
    /Compiling entry function '(\S+)' for '(\S+)'\nptxas info\s*: Function properties for \S+\n\s*(\d+) bytes stack frame, \d+ bytes spill stores/g;
  return [...readFileSync('build/cuda/ptxas.log', 'utf8').matchAll(report)].map(([, name, processor, stack]) => ({
    name: name!,
    processor: processor!,
    stackBytes: Number(stack),
  }));
}

/** Of the frame of a call, such as of the slow path of a function; a spilled tile of sums is hundreds. */
const STACK_BYTES_MAX = 64;

/** Of kernels in which a step spends its time; the plain attention of heads beyond 256 columns is not among them. */
const HOT = [
  'elements_kernel',
  'layer_norm',
  'rms_norm',
  'forward_kernel',
  'query_gradient_kernel',
  'key_gradient_kernel',
  'row_loss_kernel',
  'stats_kernel',
  'quantise_kernel',
  'column_sums_kernel',
  'add_parts_kernel',
  'dropout_kernel',
  'squares_kernel',
  'momentum_kernel',
  'cached_kernel',
  'unite_kernel',
];

if (existsSync(LIBRARY)) {
  test('hot kernels keep their sums in registers', () => {
    const found = usages();
    assert.ok(found.length > 200, `${found.length} kernels`);
    for (const hot of HOT) {
      const kernels = found.filter(({ name }) => name.includes(hot));
      assert.ok(kernels.length > 0, `no kernel ${hot}`);
      for (const { name, stackBytes } of kernels)
        assert.ok(stackBytes <= STACK_BYTES_MAX, `${name} has ${stackBytes} bytes in memory`);
    }
  });

  test('what ptxas said of every hot kernel is kept, for every processor, and none spills a tile', () => {
    const found = reports();
    for (const processor of ['sm_80', 'sm_90a', 'sm_100'])
      for (const hot of HOT) {
        const kernels = found.filter((kernel) => kernel.processor === processor && kernel.name.includes(hot));
        assert.ok(kernels.length > 0, `no ${hot} for ${processor}`);
        for (const { name, stackBytes } of kernels)
          assert.ok(stackBytes <= STACK_BYTES_MAX, `${name} for ${processor} has ${stackBytes} bytes in memory`);
      }
  });

  test('there is code for Ampere, Hopper and Blackwell, and PTX for what comes after', () => {
    const listed = (what: string) => spawnSync(CUOBJDUMP, [what, LIBRARY], { encoding: 'utf8' }).stdout;
    const code = listed('-lelf');
    for (const name of ['sm_80', 'sm_90a', 'sm_100']) assert.match(code, new RegExp(`\\.${name}\\.cubin`));
    assert.match(listed('-lptx'), /\.sm_90\.ptx/);
  });

  test('without a GPU the library loads and says what is missing', () => {
    const { devices, reason } = native().cudaInfo(LIBRARY);
    if (devices.length === 0) assert.match(String(reason), /driver|device/);
  });
}
