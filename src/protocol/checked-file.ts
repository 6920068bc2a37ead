// Bytes of a file with their checksum, read and written in chunks of which a few are under way at once: what limits a disk's cache is
// the core that copies. Each chunk is summed while others move.
import type { FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';

const CHUNK_BYTES = 4 * 1024 * 1024;
/** Fewer than the threads that Node has for files, so that others get one. */
const UNDER_WAY_MAX = 3;

/** Fills `into` from byte `at` of the file on. Resolves to the CRC-32 of what was read; null when the file ends before. */
export const readChecked = (handle: FileHandle, into: Uint8Array, at: number): Promise<number | null> =>
  inChunks(into, (chunk, from) => readChunk(handle, chunk, at + from));

/** Writes `bytes` from byte `at` of the file on. Resolves to their CRC-32. */
export async function writeChecked(handle: FileHandle, bytes: Uint8Array, at: number): Promise<number> {
  return (await inChunks(bytes, (chunk, from) => writeChunk(handle, chunk, at + from)))!;
}

/** `move` resolves to false where the file ends; then all is null. Nothing is under way any more when this settles. */
async function inChunks(
  bytes: Uint8Array,
  move: (chunk: Uint8Array, from: number) => Promise<boolean>,
): Promise<number | null> {
  const moving: { readonly chunk: Uint8Array; readonly moved: Promise<boolean> }[] = [];
  let crc = 0;
  try {
    for (let from = 0; from < bytes.length || moving.length > 0; ) {
      if (from < bytes.length && moving.length < UNDER_WAY_MAX) {
        const chunk = bytes.subarray(from, from + CHUNK_BYTES);
        const moved = move(chunk, from);
        moved.catch(() => {}); // it is waited for in its turn
        moving.push({ chunk, moved });
        from += chunk.length;
        continue;
      }
      const { chunk, moved } = moving[0]!;
      if (!(await moved)) return null;
      moving.shift();
      crc = crc32(chunk, crc);
    }
    return crc;
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
