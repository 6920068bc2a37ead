// What the machine allows: measured in the same run as the figures, so that no number is read without its ceiling.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const MESSAGE_BYTES = 64;
const SAMPLE_MS = 1000;

/** GFLOP/s of multiply-adds in registers, all `threads` together; bf16 by dot-product instructions where the CPU has them. */
export async function multiplyPeak(precision: 'fp32' | 'bf16', threads: number): Promise<number> {
  return measureNative('multiply_peak', [precision, String(threads)]);
}

/** The tensors that work streams through: `reads`, and `writes` of their own or, `inPlace`, in the place of as many that are read. */
export interface Streams {
  readonly reads: number;
  readonly writes: number;
  readonly inPlace?: boolean;
}

/** GB/s that all `threads` together read and write of memory that no cache holds, when they do nothing else. */
export async function streamBandwidth(threads: number, { reads, writes, inPlace = false }: Streams): Promise<number> {
  return measureNative('stream_bandwidth', [
    String(threads),
    String(reads),
    String(writes),
    inPlace ? 'in-place' : 'apart',
  ]);
}

/** GB/s that all `threads` together read from memory that no cache holds. */
export const readBandwidth = (threads: number): Promise<number> => streamBandwidth(threads, { reads: 1, writes: 0 });

const COPY_BYTES = 800 * 1024 * 1024;

/** GB/s of one thread that copies between two places in memory that were touched before. */
export async function copyBandwidth(): Promise<number> {
  const [from, to] = [Buffer.alloc(COPY_BYTES, 1), Buffer.alloc(COPY_BYTES, 2)];
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 3; round += 1) {
    const start = performance.now();
    from.copy(to);
    best = Math.min(best, performance.now() - start);
  }
  return COPY_BYTES / 1e6 / best;
}

/** GB/s of files that are there already, overwritten and read again, one after the other, as the system caches them. */
export async function diskBandwidth(): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'disk-'));
  const paths = ['a', 'b', 'c', 'd'].map((name) => join(folder, name));
  try {
    const bytes = Buffer.alloc(256 * 1024 * 1024, 1);
    for (const path of paths) writeFileSync(path, bytes);
    const start = performance.now();
    for (const path of paths) writeFileSync(path, bytes, { flag: 'r+' });
    for (const path of paths) readFileSync(path);
    return (paths.length * bytes.length) / 1e6 / (performance.now() - start);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Builds a program of this folder for this CPU and returns the first number that it prints. */
function measureNative(name: string, args: readonly string[]): number {
  mkdirSync('build/bench', { recursive: true });
  const binary = `build/bench/${name}`;
  const flags = ['-O3', '-march=native', '-ffp-contract=fast', '-pthread'];
  run('cc', [...flags, `bench/limits/${name}.c`, '-o', binary]);
  return Number(run(binary, args).split(' ')[0]);
}

/** Messages per second between two processes over a Unix socket, each answered before the next `batch` is sent. */
export async function pingPong(batch: number): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'ping-'));
  const path = join(folder, 's');
  const server = spawn(process.execPath, [fileURLToPath(new URL('./echo.js', import.meta.url)), path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await once(server.stdout, 'data');
    return await exchange(path, batch);
  } finally {
    server.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function exchange(path: string, batch: number): Promise<number> {
  const socket = connect(path);
  await once(socket, 'connect');
  const request = Buffer.alloc(batch * MESSAGE_BYTES);
  let received = 0;
  let answered: () => void = () => {};
  socket.on('data', (bytes) => {
    received += bytes.length;
    if (received >= request.length) answered();
  });
  let count = 0;
  const start = performance.now();
  while (performance.now() - start < SAMPLE_MS) {
    received = 0;
    await new Promise<void>((resolve) => {
      answered = resolve;
      socket.write(request);
    });
    count += batch;
  }
  const seconds = (performance.now() - start) / 1000;
  socket.destroy();
  return count / seconds;
}

/** Awaited promises per second in one process: what any API that returns promises can reach. */
export async function awaits(): Promise<number> {
  const answer = async () => 0;
  let count = 0;
  const start = performance.now();
  while (performance.now() - start < SAMPLE_MS) {
    for (let at = 0; at < 1000; at += 1) await answer();
    count += 1000;
  }
  return count / ((performance.now() - start) / 1000);
}

/** Seconds to start and end one empty Node process. */
export async function nodeStart(): Promise<number> {
  const start = performance.now();
  run(process.execPath, ['-e', '0']);
  return (performance.now() - start) / 1000;
}

function run(command: string, args: readonly string[]): string {
  const { status, error, stdout } = spawnSync(command, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`"${command} ${args.join(' ')}" ended with ${status}`);
  return stdout;
}
