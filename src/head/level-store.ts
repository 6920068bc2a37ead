// The store of clusters that outlive their head: LevelDB on disk.
// Each value carries a checksum, and every durable write counts up a number that is also noted beside the database: a
// store that lost or damaged what was acknowledged refuses to open, rather than run on less.
import { closeSync, constants, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { ClassicLevel } from 'classic-level';
import { HeadStateError } from '../common/index.js';
import type { Change, Entry, Store, StoreTable } from './store.js';

const SEQUENCE_KEY = 'meta/sequence';

export class LevelStore implements Store {
  readonly #dir: string;
  readonly #db: ClassicLevel<string, Uint8Array>;
  readonly #counter: number; // file descriptor of the counter beside the database
  #sequence: number;

  private constructor(dir: string, db: ClassicLevel<string, Uint8Array>, counter: number, sequence: number) {
    this.#dir = dir;
    this.#db = db;
    this.#counter = counter;
    this.#sequence = sequence;
  }

  /** Opens or creates the store in `dir`. Throws {@link HeadStateError} when it is in use, damaged or incomplete. */
  static async open(dir: string): Promise<LevelStore> {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    const db = new ClassicLevel<string, Uint8Array>(join(dir, 'db'), { keyEncoding: 'utf8', valueEncoding: 'view' });
    try {
      await db.open();
    } catch (error) {
      throw openError(dir, error);
    }
    const counter = openSync(join(dir, 'sequence'), constants.O_RDWR | constants.O_CREAT, 0o600);
    try {
      const noted = readCounter(counter);
      const stored = await db.get(SEQUENCE_KEY).catch((cause: unknown) => {
        throw damaged(dir, 'it cannot be read', cause);
      });
      const sequence = stored === undefined ? 0 : Number(unseal(dir, SEQUENCE_KEY, stored));
      if (noted > sequence) {
        throw damaged(dir, `${noted - sequence} of ${noted} acknowledged writes are missing from the database`);
      }
      return new LevelStore(dir, db, counter, sequence);
    } catch (error) {
      closeSync(counter);
      await db.close();
      throw error;
    }
  }

  async load(): Promise<readonly Entry[]> {
    const entries: Entry[] = [];
    try {
      for await (const [key, value] of this.#db.iterator()) {
        const at = key.indexOf('/');
        const table = key.slice(0, at) as StoreTable;
        entries.push({ table, id: key.slice(at + 1), value: unseal(this.#dir, key, value) });
      }
    } catch (cause) {
      throw cause instanceof HeadStateError ? cause : damaged(this.#dir, 'it cannot be read', cause);
    }
    return entries;
  }

  async write(changes: readonly Change[], isDurable: boolean): Promise<void> {
    const batch = this.#db.batch();
    for (const { table, id, value } of changes) {
      const key = `${table}/${id}`;
      if (value === undefined) batch.del(key);
      else batch.put(key, seal(value));
    }
    if (isDurable) batch.put(SEQUENCE_KEY, seal(this.#sequence + 1));
    await batch.write({ sync: isDurable });
    if (!isDurable) return;
    this.#sequence += 1;
    const note = Buffer.alloc(8);
    note.writeDoubleLE(this.#sequence);
    writeSync(this.#counter, note, 0, 8, 0); // after the database, so that the note is never ahead of it
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#db.status !== 'open') return;
    await this.#db.close();
    closeSync(this.#counter);
  }
}

function readCounter(file: number): number {
  const note = Buffer.alloc(8);
  return readSync(file, note, 0, 8, 0) === 8 ? note.readDoubleLE() : 0;
}

function seal(value: unknown): Uint8Array {
  const body = Buffer.from(JSON.stringify(value, bytesOut));
  const sealed = Buffer.allocUnsafe(4 + body.length);
  sealed.writeUInt32LE(crc32(body));
  body.copy(sealed, 4);
  return sealed;
}

/** JSON, so that every version can read it; bytes as base64. `this` is the holder: a Buffer would turn itself into an array. */
function bytesOut(this: unknown, key: string, value: unknown): unknown {
  const raw = (this as Record<string, unknown>)[key];
  return raw instanceof Uint8Array ? { $bytes: Buffer.from(raw).toString('base64') } : value;
}

function bytesIn(_key: string, value: unknown): unknown {
  const isBytes = typeof value === 'object' && value !== null && '$bytes' in value && typeof value.$bytes === 'string';
  return isBytes ? Buffer.from(value.$bytes as string, 'base64') : value;
}

function unseal(dir: string, key: string, sealed: Uint8Array): unknown {
  const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength);
  if (bytes.length < 4 || crc32(bytes.subarray(4)) !== bytes.readUInt32LE(0)) {
    throw damaged(dir, `record ${key} does not match its checksum`);
  }
  return JSON.parse(bytes.toString('utf8', 4), bytesIn);
}

const damaged = (stateDir: string, what: string, cause?: unknown): HeadStateError =>
  new HeadStateError(
    {
      stateDir,
      detail: `the saved state of the cluster is damaged: ${what}. Restore the folder from a copy, or move it away and start an empty cluster`,
    },
    { cause },
  );

function openError(stateDir: string, error: unknown): HeadStateError {
  const cause = error instanceof Error ? (error.cause as { code?: string; message?: string } | undefined) : undefined;
  if (cause?.code === 'LEVEL_LOCKED') {
    const detail = 'another head has this state open. One head runs on a state folder: stop it first ("raylite stop")';
    return new HeadStateError({ stateDir, detail }, { cause: error });
  }
  return damaged(stateDir, `it cannot be opened (${cause?.message ?? String(error)})`, error);
}
