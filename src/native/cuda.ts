// Where the CUDA half is: the library of its own that a build with nvcc makes, and NVIDIA's libraries that it opens. Nothing of
// it is needed, looked for or loaded until somebody asks for a GPU.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { ConfigError, PACKAGE_ROOT, RayliteError } from '../common/index.js';
import {
  ATTENTION_CHOICES,
  type AttentionChoice,
  type CudaDescription,
  type CudaLibraries,
  type NativeAddon,
  type NativeDevice,
} from './addon.js';

/** There is no GPU to be had here: `detail` says what is missing. Nothing else of raylite needs one. */
export class CudaMissingError extends RayliteError {
  readonly code = 'RAYLITE_CUDA_MISSING';
  readonly detail: string;
  constructor(facts: { detail: string }, options?: ErrorOptions) {
    super(facts.detail, options);
    this.detail = facts.detail;
  }
}

/** What this machine has of CUDA. */
export interface CudaFindings extends CudaLibraries {
  /** Path of libraylite_cuda.so; null where it was not built. */
  readonly library: string | null;
  readonly devices: readonly CudaDescription[];
  /** Why there is no device; null where there is one. */
  readonly reason: string | null;
}

const NAMES: Readonly<Record<keyof CudaLibraries, RegExp>> = {
  cublasLt: /^libcublasLt\.so\.13$/,
  nccl: /^libnccl\.so\.2$/,
  cudnn: /^libcudnn\.so\.9$/,
  cudart: /^libcudart\.so\.13$/,
  nvrtc: /^libnvrtc\.so\.13$/,
  nvrtcBuiltins: /^libnvrtc-builtins\.so\.13\.\d+$/,
};
const NOTHING_FOUND: CudaLibraries = {
  cublasLt: null,
  nccl: null,
  cudnn: null,
  cudart: null,
  nvrtc: null,
  nvrtcBuiltins: null,
};

/** The environment's RAYLITE_CUDA_LIBRARY names another build of the library. */
function libraryPath(): string | null {
  const built = join(PACKAGE_ROOT, 'build/native/libraylite_cuda.so');
  const path = resolve(process.env.RAYLITE_CUDA_LIBRARY ?? built);
  return existsSync(path) ? path : null;
}

/** Folders that may hold NVIDIA's libraries, the nearest first; those of Python's packages only when the others lack something. */
function* libraryFolders(library: string): Generator<string> {
  const { RAYLITE_CUDA_LIBRARIES, CUDA_HOME } = process.env;
  if (RAYLITE_CUDA_LIBRARIES) yield* RAYLITE_CUDA_LIBRARIES.split(':');
  yield dirname(library);
  if (CUDA_HOME) yield join(CUDA_HOME, 'lib64');
  yield* ['/usr/local/cuda/lib64', '/usr/lib/x86_64-linux-gnu', '/usr/lib64'];
  for (const root of pythonPackages()) {
    for (const name of readdirSync(root)) yield join(root, name, 'lib');
  }
}

/** The folders `nvidia` of the python3 on the path. */
function pythonPackages(): readonly string[] {
  const ask = 'import nvidia; print(*nvidia.__path__, sep="\\n")';
  try {
    const found = execFileSync('python3', ['-c', ask], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return found.split('\n').filter((path) => path !== '' && existsSync(path));
  } catch {
    return []; // no Python, or none of its packages: one place less to look
  }
}

/** What the library opens when it is first needed, each from the nearest folder that has it. */
function opened(library: string): CudaLibraries {
  const found: { -readonly [Name in keyof CudaLibraries]: string | null } = { ...NOTHING_FOUND };
  const missing = new Map(Object.entries(NAMES) as [keyof CudaLibraries, RegExp][]);
  for (const folder of libraryFolders(library)) {
    const files = existsSync(folder) ? readdirSync(folder) : [];
    for (const [name, pattern] of missing) {
      const file = files.find((file) => pattern.test(file));
      if (file === undefined) continue;
      found[name] = join(folder, file);
      missing.delete(name);
    }
    if (missing.size === 0) break;
  }
  return found;
}

/** What RAYLITE_CUDA_ATTENTION says. Throws {@link ConfigError}. */
function attentionOfEnvironment(): AttentionChoice {
  const said = process.env.RAYLITE_CUDA_ATTENTION ?? 'measured';
  const choice = ATTENTION_CHOICES.find((known) => known === said);
  if (choice === undefined) throw new ConfigError('RAYLITE_CUDA_ATTENTION', ATTENTION_CHOICES.join(', '), said);
  return choice;
}

/** Looks for everything at once, for who wants to tell what is missing. Throws nothing. */
export function findCuda(addon: NativeAddon): CudaFindings {
  const library = libraryPath();
  if (library === null) {
    const reason = 'this build has no CUDA half: "npm run build:cuda" makes it';
    return { library, ...NOTHING_FOUND, devices: [], reason };
  }
  return { library, ...opened(library), ...addon.cudaInfo(library) };
}

/**
 * Opens GPU `index` of those that this process sees. `threads` of the host make what a program has in its memory. `attention`: who makes it, by default as the environment's RAYLITE_CUDA_ATTENTION says.
 * Throws {@link CudaMissingError}.
 */
export function openCudaDevice(
  addon: NativeAddon,
  index: number,
  threads: number,
  attention?: AttentionChoice,
): NativeDevice {
  const chosen = attention ?? attentionOfEnvironment();
  const library = libraryPath();
  if (library === null)
    throw new CudaMissingError({ detail: 'this build has no CUDA half: "npm run build:cuda" makes it' });
  try {
    return addon.createCudaDevice({ library, index, ...opened(library), attention: chosen }, { threads, isa: null });
  } catch (cause) {
    throw new CudaMissingError({ detail: cause instanceof Error ? cause.message : String(cause) }, { cause });
  }
}
