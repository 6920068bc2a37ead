// Bytes of a file with their checksum, read and written in chunks of which a few are under way at once: what limits a disk's cache is
// the core that copies. Each chunk is summed meanwhile, and others have their turn in between.
import type { FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';

const CHUNK_BYTES = 4 * 1024 * 1024;
/** Fewer than the threads that Node has for files, so that others get one. */
const UNDER_WAY_MAX = 3;

/** Fills `into` from byte `at` of the file on. Resolves to the CRC-32 of what was read; null when the file ends before. */
export async function readChecked(handle: FileHandle, into: Uint8Array, at: number): Promise<number | null> {
  let crc = 0;
  const isWhole = await inChunks(into, {
    move: (chunk, from) => readChunk(handle, chunk, at + from),
    begun: () => {},
    done: (chunk) => {
      crc = crc32(chunk, crc);
    },
  });
  return isWhole ? crc : null;
}

/** Writes `bytes` from byte `at` of the file on. Resolves to their CRC-32. */
export async function writeChecked(handle: FileHandle, bytes: Uint8Array, at: number): Promise<number> {
  let crc = 0;
  await inChunks(bytes, {
    move: (chunk, from) => writeChunk(handle, chunk, at + from),
    begun: (chunk) => {
      crc = crc32(chunk, crc);
    },
    done: () => {},
  });
  return crc;
}

interface Mover {
  /** Resolves to false where the file ends. */
  readonly move: (chunk: Uint8Array, from: number) => Promise<boolean>;
  /** Both are told of the chunks in order. */
  readonly begun: (chunk: Uint8Array) => void;
  readonly done: (chunk: Uint8Array) => void;
}

/** Resolves to whether all was moved, rejects with the first failure; nothing is under way any more then. */
async function inChunks(bytes: Uint8Array, { move, begun, done }: Mover): Promise<boolean> {
  const moving: { readonly chunk: Uint8Array; readonly moved: Promise<boolean> }[] = [];
  try {
    for (let from = 0; from < bytes.length || moving.length > 0; ) {
      if (from < bytes.length && moving.length < UNDER_WAY_MAX) {
        const chunk = bytes.subarray(from, from + CHUNK_BYTES);
        const moved = move(chunk, from);
        moved.catch(() => {}); // it is waited for in its turn
        moving.push({ chunk, moved });
        begun(chunk);
        from += chunk.length;
        continue;
      }
      const { chunk, moved } = moving[0]!;
      if (!(await moved)) return false;
      done(chunk);
      moving.shift();
    }
    return true;
  } finally {
    await Promise.allSettled(moving.map(({ moved }) => moved));
  }
}

async function readChunk(handle: FileHandle, chunk: Uint8Array, at: number): Promise<boolean> {
  for (let done = 0; done < chunk.length; ) {
    const { bytesRead } = await handle.read(chunk, done, chunk.length - done, at + done);
    if (bytesRead === 0) return false;
    done += bytesRead;
  }
  return true;
}

async function writeChunk(handle: FileHandle, chunk: Uint8Array, at: number): Promise<boolean> {
  for (let done = 0; done < chunk.length; )
    done += (await handle.write(chunk, done, chunk.length - done, at + done)).bytesWritten;
  return true;
}
