// An object that lies on this node's disk: its file is mapped, so that it costs the reader no memory of its own.
import { type ObjectId, ObjectLostError } from '../common/index.js';
import { type FilePart, native } from '../native/index.js';

/** `onRelease` runs when nobody holds the bytes any more, or there are none. */
export async function mapSpilled(objectId: ObjectId, part: FilePart, onRelease: () => void): Promise<ArrayBuffer> {
  try {
    return await native().mapFile(part, onRelease);
  } catch (cause) {
    onRelease();
    throw new ObjectLostError(
      { objectId, detail: `on disk it cannot be read: ${(cause as Error).message}` },
      { cause },
    );
  }
}
