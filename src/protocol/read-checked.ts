// Bytes of a file with their checksum: each part is summed while the next is read, in steps between which others have their turn.
import type { FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';

const CHUNK_BYTES = 8 * 1024 * 1024;

/** Fills `into` from byte `at` of the file on. Resolves to the CRC-32 of what was read; null when the file ends before. */
export async function readChecked(handle: FileHandle, into: Uint8Array, at: number): Promise<number | null> {
  const read = (from: number) => handle.read(into, from, Math.min(CHUNK_BYTES, into.length - from), at + from);
  let crc = 0;
  let done = 0;
  let reading = into.length > 0 ? read(0) : null;
  while (reading) {
    const { bytesRead } = await reading;
    if (bytesRead === 0) return null;
    const part = into.subarray(done, done + bytesRead);
    done += bytesRead;
    reading = done < into.length ? read(done) : null;
    crc = crc32(part, crc);
  }
  return crc;
}
