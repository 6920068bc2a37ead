// One object, many nodes that read it at once: they pass it on to each other.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { NodeId, ObjectId } from '#src/common/index.js';
import { native } from '#src/native/index.js';
import { ObjectIndex } from '#src/node/object-index.js';
import { SpillFiles } from '#src/node/spill-files.js';
import { TransferServer } from '#src/node/transfer.js';

const MIB = 1024 * 1024;
const BYTES = 64 * MIB;
const OBJECT = 'd-1' as ObjectId;
const READERS = 8;

/** The part of a node that holds objects. `opened` hears of each reader it serves, and the bytes wait for its answer. */
class Store implements AsyncDisposable {
  readonly arena = native().createArena({
    path: `/dev/shm/raylite-test-${randomBytes(6).toString('hex')}`,
    bytes: BYTES + 32 * MIB, // an object with less room beside it goes to disk
  });
  readonly index: ObjectIndex;
  sentBytes = 0;
  opens = 0;
  server!: TransferServer;
  readonly #opened: () => Promise<void>;

  constructor(name: string, opened: () => Promise<void>) {
    this.#opened = opened;
    const files = new SpillFiles(join(tmpdir(), `raylite-test-${name}`), name as NodeId, this.arena);
    this.index = new ObjectIndex(name as NodeId, 'secret', this.arena, files, {
      vacated: () => {},
      collect: async () => {},
    });
  }
  async open(): Promise<void> {
    this.server = await TransferServer.listen('127.0.0.1', 'secret', {
      open: (objectId) => {
        const read = this.index.open(objectId);
        if (!read) return null;
        this.opens += 1;
        const isAllowed = this.#opened();
        return {
          ...read,
          read: async (from, length) => {
            await isAllowed;
            this.sentBytes += length;
            return read.read(from, length);
          },
        };
      },
      freed: () => {},
    });
    this.index.transfer = `127.0.0.1:${this.server.port}`;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
    this.arena.close();
  }
}

/**
 * Nodes that all ask an origin for one object at once; bytes flow when each has found who gives them, after `beforeBytes`.
 * All must get it whole.
 */
async function broadcast(beforeBytes: (readers: readonly Store[]) => Promise<void>): Promise<readonly Store[]> {
  let served = 0;
  let go = (): void => {};
  const allServed = new Promise<void>((resolve) => {
    go = resolve;
  });
  const allowed = allServed.then(() => beforeBytes(readers));
  const opened = (): Promise<void> => {
    served += 1;
    if (served === READERS) go();
    return allowed;
  };
  const stores = Array.from({ length: READERS + 1 }, (_, index) => new Store(`n${index}`, opened));
  const [origin, ...readers] = stores as [Store, ...Store[]];
  try {
    await Promise.all(stores.map((store) => store.open()));
    const content = randomBytes(BYTES);
    const holder = {};
    const { slab, offset } = (await origin.index.lease(BYTES, holder, () => false))!;
    origin.arena.write(offset, [content]);
    origin.index.sealed({ objectId: OBJECT, location: { slab, offset, size: BYTES, serial: 1 } }, holder);
    const from = { nodeId: 'n0', transfer: origin.index.transfer };
    const pulls = readers.map(async (reader) => {
      const { location } = await reader.index.pull(OBJECT, from, holder);
      const got = new Uint8Array(reader.arena.readable(location.offset ?? 0, BYTES, () => {}));
      assert.ok(content.equals(got));
    });
    await Promise.all(pulls);
    return stores;
  } finally {
    for (const store of stores) await store[Symbol.asyncDispose]();
  }
}

test('of 8 readers of 64 MiB the origin serves two, and they the others while it comes', async () => {
  const stores = await broadcast(async () => {});
  assert.equal(stores[0]?.sentBytes, 2 * BYTES);
  for (const { sentBytes } of stores) assert.ok(sentBytes <= 2 * BYTES, `${sentBytes / BYTES} copies from one node`);
});

test('when a node that gives an object on goes, its readers turn to the origin', async () => {
  let cutOff = 0;
  const stores = await broadcast(async (readers) => {
    const giver = readers.find(({ opens }) => opens > 0)!;
    cutOff = giver.opens;
    await giver.server[Symbol.asyncDispose]();
  });
  assert.ok(cutOff > 0);
  assert.equal(stores[0]?.sentBytes, (2 + cutOff) * BYTES);
});
