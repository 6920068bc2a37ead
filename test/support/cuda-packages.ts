// NVIDIA's Python packages that the CUDA half was built with, and a driver that stands in for one where there is none.
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The folder that holds them; null where there is none. */
export function cudaPackages(): string | null {
  const python = process.env.RAYLITE_CUDA_PYTHON ?? 'build/cuda/venv/bin/python';
  const ask = "import sysconfig; print(sysconfig.get_paths()['purelib'])";
  const { status, stdout } = spawnSync(python, ['-c', ask], { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : null;
}

/** What the stand-in does of the driver's functions: no device, and all code can be loaded. Others give CUDA_ERROR_STUB_LIBRARY. */
const BODIES: Readonly<Record<string, string>> = {
  cuInit: '(void) { return 100; }',
  cuDriverGetVersion: '(int *version) { *version = 13000; return 0; }',
  ...Object.fromEntries(
    [
      ...['cuLibraryLoadData', 'cuLibraryGetKernel', 'cuKernelGetFunction'],
      ...['cuModuleLoadData', 'cuModuleLoadDataEx', 'cuModuleGetFunction'],
    ].map((name) => [name, '(void **made) { *made = (void *)8; return 0; }']),
  ),
  ...Object.fromEntries(
    [
      ...['cuLibraryUnload', 'cuModuleUnload', 'cuKernelSetAttribute', 'cuFuncSetAttribute'],
      ...['cuFuncSetCacheConfig', 'cuKernelSetCacheConfig'],
    ].map((name) => [name, '(void) { return 0; }']),
  ),
};

/** Writes libcuda.so.1 to `folder`: for the LD_LIBRARY_PATH of a process that plans for a GPU, never beside a real driver. */
export function makeDriverStub(packages: string, folder: string): void {
  const header = readFileSync(join(packages, 'nvidia/cu13/include/cuda.h'), 'utf8');
  const names = new Set([
    ...[...header.matchAll(/CUresult\s+CUDAAPI\s+(cu\w+)\s*\(/g)].map(([, name]) => name!),
    ...[...header.matchAll(/^#define\s+cu\w+\s+(cu\w+_v\d+)\s*$/gm)].map(([, name]) => name!),
    ...Object.keys(BODIES),
  ]);
  const source = [...names].map((name) => `int ${name}${BODIES[name] ?? '(void) { return 34; }'}\n`).join('');
  execFileSync(
    'gcc',
    [
      ...['-xc', '-', '-w', '-O1', '-fPIC', '-shared', '-Wl,-soname,libcuda.so.1'],
      ...['-o', join(folder, 'libcuda.so.1')],
    ],
    { input: source },
  );
}
