// An object that lies on this node's disk, read into this process's own memory: the arena had no room for it.
import { open } from 'node:fs/promises';
import { type ObjectId, ObjectLostError } from '../common/index.js';
import { readChecked } from '../protocol/index.js';

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
    const crc = await readChecked(handle, new Uint8Array(memory), at.offset);
    if (crc === null) throw lost(`${at.file} ends before it does`);
    if (crc !== at.crc) throw lost(`its bytes in ${at.file} are damaged`);
    return memory;
  } finally {
    await handle.close();
  }
}
