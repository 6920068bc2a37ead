// The devices that tests of ops run on: each instruction set of this CPU, and the CUDA half: its sources compiled for the CPU
// (native/emulate), or, with RAYLITE_TEST_GPU=1, a real one.
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  type AttentionChoice,
  findCuda,
  type HostOptions,
  type Isa,
  type NativeDevice,
  native,
  openCudaDevice,
} from '#src/native/index.js';

/** The library that emulates CUDA, cuBLASLt and NCCL, which lie beside it under their names. */
export const EMULATED = fileURLToPath(new URL('../../../../build/emulated/libraylite_cuda.so', import.meta.url));

export const HOST: HostOptions = { threads: 2, isa: null };

export const IS_GPU = process.env.RAYLITE_TEST_GPU === '1';

/** The instruction sets that this CPU runs. */
export const ISAS: readonly Isa[] = (['scalar', 'avx2', 'avx512'] as const).slice(
  0,
  { scalar: 1, avx2: 2, avx512: 3 }[native().engineInfo().isa],
);

export interface DeviceUnderTest {
  /** "avx2, 3 threads", "emulated CUDA" */
  readonly name: string;
  readonly isCuda: boolean;
  readonly open: () => NativeDevice;
}

function cpu(isa: Isa, threads: number): DeviceUnderTest {
  const name = `${isa}, ${threads} ${threads === 1 ? 'thread' : 'threads'}`;
  return { name, isCuda: false, open: () => native().createDevice({ threads, isa, pin: false }) };
}

/** GPU `index`, real or emulated, with attention of our own. */
export function openCuda(index = 0): NativeDevice {
  return openCudaWith('own', index);
}

/** GPU `index`, real or emulated; `attention`: who makes it. */
export function openCudaWith(attention: AttentionChoice, index = 0): NativeDevice {
  return IS_GPU ? openCudaDevice(native(), index, HOST.threads, attention) : openEmulated(index, EMULATED, attention);
}

/** An emulated GPU; `nccl`: where its library of collectives is; `host`: who makes what is offloaded. */
export function openEmulated(
  index: number,
  nccl: string | null,
  attention: AttentionChoice = 'own',
  host: HostOptions = HOST,
): NativeDevice {
  const library = resolve(EMULATED);
  const others = { cudart: null, nvrtc: null, nvrtcBuiltins: null };
  return native().createCudaDevice(
    { library, index, attention, cublasLt: library, nccl, cudnn: library, ...others },
    host,
  );
}

/** Why tests of cuDNN cannot run; false where they can. */
export const NO_CUDNN: string | false = IS_GPU && findCuda(native()).cudnn === null && 'no cuDNN on this machine';

export const CUDA: DeviceUnderTest = { name: IS_GPU ? 'CUDA' : 'emulated CUDA', isCuda: true, open: () => openCuda() };

/** Every instruction set with each number of threads (by `only`: the best one with more than one), and CUDA. */
export const DEVICES: readonly DeviceUnderTest[] = [
  ...ISAS.flatMap((isa) => [1, 3].map((threads) => cpu(isa, threads))),
  CUDA,
];
