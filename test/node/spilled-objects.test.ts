// Objects on one node's disk that another node asks for.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type NodeId, type ObjectId, ObjectLostError } from '#src/common/index.js';
import { native } from '#src/native/index.js';
import { ObjectIndex } from '#src/node/object-index.js';
import { SpillFiles } from '#src/node/spill-files.js';
import { TransferServer } from '#src/node/transfer.js';

const MIB = 1024 * 1024;
const BYTES = 5 * MIB;

class Store implements AsyncDisposable {
  readonly arena = native().createArena({
    path: `/dev/shm/raylite-test-${randomBytes(6).toString('hex')}`,
    bytes: 16 * MIB,
  });
  readonly folder = mkdtempSync(join(tmpdir(), 'raylite-test-spilled-'));
  readonly index: ObjectIndex;
  readonly #process = {};

  constructor(name: string) {
    const files = new SpillFiles(this.folder, name as NodeId, this.arena);
    const news = { vacated: () => {}, collect: async () => {} };
    this.index = new ObjectIndex(name as NodeId, 'secret', this.arena, files, news);
  }
  /** Puts an object there, in a slab of its own. */
  async put(objectId: ObjectId, content: Uint8Array): Promise<void> {
    const slab = (await this.index.lease(content.length, this.#process, () => false))!;
    this.arena.write(slab.offset, [content]);
    this.arena.publish(slab.offset, slab.slab, 1);
    const location = { slab: slab.slab, offset: slab.offset, size: content.length, serial: 1 };
    assert.ok(this.index.sealed({ objectId, location }, this.#process));
  }
  placeOf(objectId: ObjectId): string | undefined {
    return this.index.placed().find((placed) => placed.objectId === objectId)?.place;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.arena.close();
    rmSync(this.folder, { recursive: true });
  }
}

test('another node gets what is on disk; what is damaged there is lost, and never given', async () => {
  await using origin = new Store('origin');
  await using reader = new Store('reader');
  await using server = await TransferServer.listen('127.0.0.1', 'secret', {
    open: (objectId) => origin.index.open(objectId),
    freed: () => {},
  });
  const content = randomBytes(BYTES);
  const ids = ['d-1', 'd-2', 'd-3', 'd-4'] as ObjectId[];
  for (const objectId of ids.slice(0, 3)) await origin.put(objectId, content);
  while (origin.placeOf('d-1' as ObjectId) !== 'spilled') await sleep(1);
  const from = { nodeId: 'origin', transfer: `127.0.0.1:${server.port}` };
  const pull = async (objectId: ObjectId): Promise<Uint8Array> => {
    const { location } = await reader.index.pull(objectId, from, reader);
    const got = Uint8Array.from(new Uint8Array(reader.arena.readable(location.offset ?? 0, BYTES, () => {})));
    reader.index.releasePull(objectId, '', reader);
    return got;
  };
  assert.ok(content.equals(await pull('d-1' as ObjectId)));
  const isLost = (error: unknown): boolean => {
    assert.ok(error instanceof ObjectLostError, String(error));
    assert.match(error.message, /damaged|ends before/);
    return true;
  };
  const [name] = readdirSync(origin.folder);
  const path = join(origin.folder, name!);
  const before = Buffer.from(content);
  before[3 * MIB]! ^= 1;
  writeFileSync(path, before);
  await assert.rejects(pull('d-1' as ObjectId), isLost);
  truncateSync(path, 4096);
  await assert.rejects(pull('d-1' as ObjectId), isLost);
});
