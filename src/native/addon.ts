// What native/addon exports, field by field. Errors thrown by native code are plain Errors with a stable `code`
// ("PLAN", "SHAPE", "COMM", "STORE", …); the room that calls turns them into raylite's own.

export interface NativeAddon extends NativeEngine, NativeComm, NativeGpus, NativeIo, NativeStore {}

// ---- engine (native/core, native/cpu) ----

export type Isa = 'scalar' | 'avx2' | 'avx512';

export interface NativeEngine {
  /** The best instruction set of this CPU, and the op names the executor knows. */
  engineInfo(): { readonly isa: Isa; readonly ops: readonly string[]; readonly cores: number };
  /** A CPU device: `threads` pinned compute threads plus one for communication. `isa` null takes the best. */
  createDevice(options: HostOptions & { readonly pin: boolean }): NativeDevice;
  /** A GPU; `host` makes what a program has in memory of the host. Throws with code "CUDA" where there is none, or where the library at `library` cannot be opened. */
  createCudaDevice(options: CudaOpening, host: HostOptions): NativeDevice;
  /**
   * Bytes of workspace that cuDNN plans attention with on a GPU that need not be here; `properties`: JSON as its frontend writes it. Throws with
   * code "CUDA" where cuDNN is missing, "ENGINE" where it does not take the shape.
   */
  planCudaAttention(opening: CudaOpening, properties: string, shape: CudaAttentionShape): number;
  /** The GPUs that the library at `path` sees, or why there is none. */
  cudaInfo(path: string): { readonly devices: readonly CudaDescription[]; readonly reason: string | null };
  /** Fills `values` with normal numbers times `std`. Value i depends on the key's two words and on i alone. Blocks. */
  fillNormal(values: Float32Array, key0: number, key1: number, std: number, threads: number, isa: Isa | null): void;
  /** Multiply-adds of one core from registers alone, in GFLOP/s: the limit of matrix products of `type`. Blocks for `seconds`. */
  measurePeak(isa: Isa, seconds: number, type: 'f32' | 'bf16'): number;
}

/** Threads of the host and the kernels that they run; `isa` null takes the best. */
export interface HostOptions {
  readonly threads: number;
  readonly isa: Isa | null;
}

/** Paths of NVIDIA's libraries that the library opens when it first needs them; null where they were not found. */
export interface CudaLibraries {
  /** Products. */
  readonly cublasLt: string | null;
  /** Collectives: ranks exchange through the host without. */
  readonly nccl: string | null;
  /** Attention beside our own, which takes the three after it along: the runtime, and the compiler of its kernels in two parts. */
  readonly cudnn: string | null;
  readonly cudart: string | null;
  readonly nvrtc: string | null;
  readonly nvrtcBuiltins: string | null;
}

/** Who makes attention where cuDNN takes it: whichever is measured to be faster, or always the same. */
export const ATTENTION_CHOICES = ['measured', 'own', 'cudnn'] as const;
export type AttentionChoice = (typeof ATTENTION_CHOICES)[number];

export interface CudaOpening extends CudaLibraries {
  readonly library: string;
  readonly index: number;
  readonly attention: AttentionChoice;
}

/**
 * `segments` sequences of `rows` rows. Where q, k and v lie: in a tensor each, side by side in one (GPT-2), or head by head in one (GPT-NeoX).
 */
export interface CudaAttentionShape {
  readonly type: 'bf16' | 'f16';
  readonly isBackward: boolean;
  readonly segments: number;
  readonly rows: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly layout: 'apart' | 'fused' | 'interleaved';
  readonly isCausal: boolean;
  /** 0: none. */
  readonly window: number;
}

export interface CudaDescription {
  readonly name: string;
  readonly memoryBytes: number;
  /** "9.0" */
  readonly capability: string;
  /** Streaming multiprocessors. */
  readonly processors: number;
}

export interface NativeDevice {
  /**
   * Allocates zeroed memory, 4 KiB aligned (huge pages where offered), of the device or, `isOnHost`, of the host. Returns its id.
   * Freed by dispose().
   */
  allocate(bytes: number, isOnHost?: boolean): number;
  free(buffer: number): void;
  /**
   * The buffer's memory itself, without a copy. Detached by dispose(). Of a GPU: a copy in the host's memory, which every run
   * of a program over the buffer takes along both ways: for what is small, and read or written between runs.
   */
  view(buffer: number): ArrayBuffer;
  /** Copies bytes from `offset` of a buffer on, between runs. */
  read(buffer: number, offset: number, bytes: Uint8Array): void;
  write(buffer: number, offset: number, bytes: Uint8Array): void;
  /** Copies bytes from buffer to buffer, or within one, on the device, between runs; the two places do not overlap. */
  copy(from: number, fromOffset: number, to: number, toOffset: number, bytes: number): void;
  /** Whether its memory is the host's own. */
  readonly isHost: boolean;
  /** Where its memory lies: devices of one place, in whatever processes, use each other's memory. */
  readonly place: string;
  /** Keeps a buffer's memory for others, until it is disposed of and the buffer is freed. Runs must have ended. */
  share(buffer: number): NativeShare;
  /** A buffer of the same memory, of a share of this process and this place. */
  adopt(share: NativeShare): number;
  /**
   * A buffer of memory that another process of this place shares, by its `handle`; whoever shares it must keep it until the buffer is
   * freed. Throws with code "ENGINE" when it is not there any more.
   */
  openShared(handle: Uint8Array, bytes: number): number;
  /** Of the memory that it has. */
  readonly machine: string;
  /**
   * A buffer of its own with `bytes` from `offset` on of what another GPU of the machine has, copied from one to the other: of a share of this process,
   * or by the handle of another's, whose memory has `memoryBytes`. Throws with code "ENGINE" where the GPUs cannot reach each other.
   */
  copyShared(from: NativeShare | Uint8Array, memoryBytes: number, offset: number, bytes: number): number;
  /**
   * Has programs that are loaded from then on make the group's collectives on the device itself (NCCL); null when they do, or why they go
   * through the host's memory, as they do on a CPU. All ranks of the group must call it. A collective in which a rank waits longer than
   * `timeoutMs` fails the run. Rejects with code "COMM".
   */
  join(group: NativeCommunicator, timeoutMs: number): Promise<string | null>;
  /**
   * Passes a message to or from a rank of the group, beside runs: by the device itself (NCCL) where it has joined the group, else through
   * the host. Resolves when it has left or arrived. One at a time per group, in the order of the calls; programs do not use such a group.
   * Rejects with code "COMM".
   */
  pass(group: NativeCommunicator, message: NativeMessage): Promise<void>;
  /** Checks `plan` (see ARCHITECTURE.md, "Plan format") against the buffers, once. `buffers[i]` backs plan buffer i; `communicators[g]` is group g, or null where no instruction needs it. */
  load(
    plan: Uint8Array,
    buffers: readonly number[],
    communicators: readonly (NativeCommunicator | null)[],
    files?: readonly (NativeSwapFile | null)[],
  ): NativeProgram;
  /** Reads tensors of an open file straight into buffers, converted on the way, on all threads. Rejects with code "ENGINE". */
  readFile(fd: number, reads: readonly TensorRead[]): Promise<void>;
  /** What it has chosen between where there was a choice (a GPU: who makes attention, and why), as lines for people. */
  choices(): readonly string[];
  /** Of the device, and of the host. */
  readonly allocatedBytes: number;
  readonly hostBytes: number;
  dispose(): void;
}

/** `bytes` of a buffer, on their way to a rank or from one. */
export type NativeMessage = { readonly buffer: number; readonly offset: number; readonly bytes: number } & (
  | { readonly to: number }
  | { readonly from: number }
);

export interface NativeShare {
  readonly place: string;
  readonly bytes: number;
  /** For other processes; null where there is no way for them (a CPU's memory, or what is another process's itself). */
  readonly handle: Uint8Array | null;
  /** Copies bytes from `offset` on. */
  read(offset: number, bytes: Uint8Array): void;
  /** Safe to repeat. */
  dispose(): void;
}

/** `count` numbers at byte `fileOffset` of a file, as numbers of type `to` at byte `bufferOffset` of a buffer. */
export interface TensorRead {
  readonly fileOffset: number;
  readonly count: number;
  readonly from: 'f32' | 'bf16' | 'f16';
  readonly buffer: number;
  readonly bufferOffset: number;
  readonly to: 'f32' | 'bf16' | 'f16';
}

/** The first instruction of a run that left a number which is not finite: its place in the plan, and it, op, path and element in words. */
export interface NativeFinding {
  readonly instruction: number;
  readonly message: string;
}

export interface NativeProgram {
  /** Of its kernels, allocated with the program. */
  readonly workspaceBytes: number;
  /** Runs every instruction; rejects with code "ENGINE" or "COMM". One run at a time per device. */
  run(): Promise<void>;
  /** As run(), and returns the seconds of each instruction. */
  profile(): Promise<Float64Array>;
  /** As run(); which instruction was the first to leave NaN or infinity, or null. */
  check(): Promise<NativeFinding | null>;
  /** As run(), with every thread late by up to 200 µs at every instruction, drawn from `seed` (from 1 on). For tests. */
  jitter(seed: number): Promise<void>;
  dispose(): void;
}

// ---- collectives (native/comm) ----

export interface JoinOptions {
  readonly rank: number;
  /** For forming the group. Infinity waits for ever. */
  readonly timeoutMs: number;
  /** For each later wait on a peer; default timeoutMs. A rank that is late by this fails the group: allow for its longest pause. */
  readonly operationTimeoutMs?: number;
  /** The numbers in the job of the group's ranks, which errors name; default: those in the group. */
  readonly names?: readonly number[];
}

export interface TcpJoinOptions extends JoinOptions {
  readonly listener: object;
  readonly addresses: readonly string[];
  readonly secret: string;
  /** Whether what goes over the network is encrypted (AES-256-GCM, by keys that follow from the secret). All ranks must say the same. */
  readonly seals?: boolean;
}

/** What the watch over a rank's groups has seen. */
export interface WatchNews {
  /** `late`: `ranks` let this one wait, as `message` says. `came`: those told before do no longer. `broken`: the groups have failed. */
  readonly kind: 'late' | 'came' | 'broken';
  /** By their numbers in the job; none where nobody is known to be at fault. */
  readonly ranks: readonly number[];
  readonly message: string;
}

export interface NativeComm {
  /** Joins the group `name` (a fresh name under /dev/shm) of `size` ranks; waits for all. Rejects after timeoutMs, naming the ranks that did not come. */
  joinShmGroup(options: JoinOptions & { readonly name: string; readonly size: number }): Promise<NativeCommunicator>;
  /** Bytes of shared memory of such a group, which each of its ranks maps. */
  shmGroupBytes(size: number): number;
  /**
   * Watches over all groups of a rank: tells the peers that this process runs, and notices within 5 s whose process has ended or
   * stands still (which slow work does not), whether or not anybody waits for it. What breaks one group ends all. `tell` hears of that, and
   * of ranks that let this one wait for 4 s. Dispose it before the groups.
   */
  watchGroups(groups: readonly NativeCommunicator[], tell?: (news: WatchNews) => void): { dispose(): void };
  /** Opens a listening socket on `host` for one coming group. */
  listenTcpGroup(host: string): { readonly port: number; readonly listener: object };
  /** Connects all ranks in a mesh; `addresses[r]` is "host:port" of rank r. `secret` must be equal on all ranks; it never travels. */
  joinTcpGroup(options: TcpJoinOptions): Promise<NativeCommunicator>;
  /**
   * As joinTcpGroup, where ranks that follow each other are on one machine, equally many on each of `machines`: those talk over shared
   * memory, under names that begin with `name`.
   */
  joinHierarchicalGroup(
    options: TcpJoinOptions & { readonly name: string; readonly machines: number },
  ): Promise<NativeCommunicator>;
}

export type Bytes = Float32Array | Uint16Array | Uint8Array;

/**
 * Collectives, summed in the order of the ranks: all ranks, and both kinds of group, get the same bits. Calls
 * queue up; all ranks make the same calls in the same order (else: an error). `data` must not be touched meanwhile.
 * Reductions are of floats, or of 16-bit numbers in a Uint16Array of a `type`, which are summed in f32 and rounded once.
 * A rank that ends, leaves, is late or aborts makes every peer's call reject with code "COMM", field `rank` (where
 * known: its number in the job), and one same message; the group is then of no more use.
 */
export interface NativeCommunicator {
  readonly rank: number;
  readonly size: number;
  readonly bytesSent: number;
  allReduce(data: Float32Array | Uint16Array, op: 'sum' | 'max', type?: 'bf16' | 'f16'): Promise<void>;
  /** `data` has size × slice elements; afterwards slice `rank` of it holds the sum. The other slices are unspecified. */
  reduceScatter(data: Float32Array | Uint16Array, type?: 'bf16' | 'f16'): Promise<void>;
  /** `data` has size × slice bytes; slice `rank` of it is sent to all. */
  allGather(data: Bytes): Promise<void>;
  /** Both have size × slice bytes, apart: slice p of `input` becomes slice `rank` of the output of rank p. */
  allToAll(input: Bytes, output: Bytes): Promise<void>;
  broadcast(data: Bytes, root: number): Promise<void>;
  /** Sends to one peer and receives from one, or either alone. Of the others nobody takes part. */
  sendReceive(transfer: {
    readonly send?: Bytes;
    readonly to?: number;
    readonly receive?: Bytes;
    readonly from?: number;
  }): Promise<void>;
  barrier(): Promise<void>;
  /** Fails the calls of all ranks, now and later. */
  abort(reason: string): void;
  /** Throws the error of the group with code "COMM", if it is broken. */
  check(): void;
  /** Leaves the group: orderly between calls, as a failure during one. Safe to repeat. */
  dispose(): void;
}

// ---- the GPUs of a machine (native/gpu) ----

export interface NativeGpus {
  /** Opens NVIDIA's management library. Throws with code "GPU" where there is none, or no driver behind it. */
  openGpuMonitor(library: string): NativeGpuMonitor;
}

export interface NativeGpuMonitor {
  /** All GPUs, in the order of their places on the bus. */
  look(): readonly GpuState[];
  /** Safe to repeat. */
  dispose(): void;
}

/** What the driver does not tell is null. */
export interface GpuState {
  /** "GPU-…", as in CUDA_VISIBLE_DEVICES. */
  readonly uuid: string;
  readonly name: string;
  readonly memoryBytes: number;
  readonly usedBytes: number;
  readonly busyPercent: number | null;
  readonly celsius: number | null;
  /** That could not be corrected, since the driver was loaded. */
  readonly eccErrors: number | null;
  /** Of a critical error since the monitor was opened; 0: none. */
  readonly lastXid: number;
}

// ---- files that are offloaded to (native/io) ----

export interface SwapFileOptions {
  readonly folder: string;
  /** Set aside at once: an error now where the disk has not so many. */
  readonly bytes: number;
  /** Of one request: a multiple of 4096. */
  readonly blockBytes: number;
  /** Requests under way at once, of each of `threads` threads that share a transfer. */
  readonly queueDepth: number;
  readonly threads: number;
  /** Requests are handed over one by one. */
  readonly singleSubmit: boolean;
  /** Each request that is done makes room for the next; false: a queue is waited for as a whole. */
  readonly overlapEvents: boolean;
}

export interface NativeIo {
  /** Makes a file of zeros in `folder` that nobody sees and that is gone with the process. Throws with code "ENGINE". */
  openSwapFile(options: SwapFileOptions): NativeSwapFile;
}

export interface NativeSwapFile {
  /** Whether programs read and write past the page cache: not every file system can. */
  readonly isDirect: boolean;
  /** Blocks. Throws with code "ENGINE", naming the folder and the byte. */
  read(offset: number, bytes: Uint8Array): void;
  write(offset: number, bytes: Uint8Array): void;
  /** Safe to repeat. Programs keep the file until they are disposed. */
  dispose(): void;
}

// ---- shared-memory arena (native/store) ----

export interface NativeStore {
  /** Creates the arena file (mode 0600, O_EXCL) and maps it. */
  createArena(options: { readonly path: string; readonly bytes: number }): NativeArena;
  openArena(options: { readonly path: string; readonly bytes: number }): NativeArena;
  /** As zlib's, in a third of its time. */
  crc32(bytes: Uint8Array): number;
  /**
   * A part of a file as memory that is this process's own where it writes to it; `onRelease` runs once when nobody holds it any more.
   * Keeps its bytes when the file is unlinked. Rejects with code "STORE" when the file is not there, ends before the part does, or
   * the part does not have its checksum; `onRelease` does not run then.
   */
  mapFile(part: FilePart, onRelease: () => void): Promise<ArrayBuffer>;
  readonly NativeAside: new () => NativeAside;
}

export interface FilePart {
  readonly path: string;
  /** A multiple of the page size. */
  readonly at: number;
  readonly bytes: number;
  /** CRC-32, as zlib's. */
  readonly crc: number;
}

/** Memory for bytes that wait for room in the arena. */
export interface NativeAside {
  /** Copies parts, `bytes` together; into the memory that is there where that is enough. */
  set(bytes: number, parts: readonly { readonly at: number; readonly bytes: Uint8Array }[]): void;
  /** Gives the memory back, without waiting for the garbage collector. */
  free(): void;
}

export interface NativeArena {
  readonly bytes: number;
  /** Writes go to shared memory: only for regions leased to this process and not yet sealed. */
  writable(offset: number, length: number): ArrayBuffer;
  /**
   * A private copy-on-write view: a stray write changes nothing for others and does not crash. `onRelease` runs once
   * when the last view that JavaScript holds on this ArrayBuffer is collected. `isWritten`: somebody has written all of it, so
   * that it takes the same time whatever its length; without it, memory that is not there yet is asked for, or an error.
   */
  readable(offset: number, length: number, onRelease: () => void, isWritten?: boolean): ArrayBuffer;
  /** Copies into shared memory; parts of 1 MiB or more without the caches. */
  write(offset: number, parts: readonly Uint8Array[]): void;
  /** The same for what was set aside. */
  writeAside(offset: number, aside: NativeAside): void;
  /**
   * Writes parts of shared memory to an open file, each from byte `at` of it on, `at` growing. Resolves to their CRC-32s. Rejects with
   * code "STORE"; then some of it may be written. The file must stay open, and the parts unchanged, meanwhile.
   */
  spill(
    fd: number,
    parts: readonly { readonly offset: number; readonly size: number; readonly at: number }[],
  ): Promise<number[]>;
  /**
   * Forgets this process's private copies (made by stray writes) of all pages that the region touches, before it is used
   * again. A private page hides what others write later: give objects whole pages, or forget when a view is released.
   */
  forget(offset: number, length: number): void;
  /** The CRC-32 (as zlib's) of what is shared. */
  crc32(offset: number, length: number): number;
  /**
   * Says that the object (slab, serial) begins at `offset`, before anybody is told of it. Objects are longer than 64 KiB.
   * The four calls about pins are atomic, between processes too.
   */
  publish(offset: number, slab: number, serial: number): void;
  /** Keeps the object where it is for process `reader` (0 to 383); false when it is not there any more. Not counted: once a process. */
  pin(offset: number, slab: number, serial: number, reader: number): boolean;
  unpin(offset: number, reader: number): void;
  /** For the node: true when nobody reads the object (and from now on nobody can pin it), false when somebody does. */
  revoke(offset: number, slab: number, serial: number): boolean;
  /**
   * Has a thread of low priority ask for the memory of the first `bytes`, so that their first writer does not wait for it. A later
   * call with more goes on from there; it does not wait.
   */
  prefault(bytes: number): void;
  /** For its creator, unlinks the file. Views stay valid; the memory goes with the last of them. Safe to repeat; later calls throw. */
  close(): void;
  unlink(): void;
}
