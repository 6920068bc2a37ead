// An object that lies on this node's disk, read into this process's own memory: the arena had no room for it.
import { open } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { type ObjectId, ObjectLostError } from '../common/index.js';

const CHUNK_BYTES = 8 * 1024 * 1024;

export async function readSpilled(
  objectId: ObjectId,
  at: { readonly file: string; readonly offset: number; readonly size: number; readonly crc: number },
): Promise<ArrayBuffer> {
  const memory = new ArrayBuffer(at.size);
  const lost = (detail: string, cause?: unknown): ObjectLostError =>
    new ObjectLostError({ objectId, detail }, { cause });
  const handle = await open(at.file, 'r').catch((cause: unknown) => {
    throw lost('its owner has let go of it, or its node has ended', cause);
  });
  try {
    let crc = 0;
    for (let done = 0; done < at.size; ) {
      const into = new Uint8Array(memory, done, Math.min(CHUNK_BYTES, at.size - done));
      const { bytesRead } = await handle.read(into, 0, into.length, at.offset + done);
      if (bytesRead === 0) throw lost(`${at.file} ends before it does`);
      crc = crc32(into.subarray(0, bytesRead), crc);
      done += bytesRead;
    }
    if (crc !== at.crc) throw lost(`its bytes in ${at.file} are damaged`);
    return memory;
  } finally {
    await handle.close();
  }
}
