// Who may use which part of the arena, told as events.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type NodeId, type ObjectId, StoreFullError, type WorkerId } from '#src/common/index.js';
import { SlabTable } from '#src/node/slab-table.js';

const PAGE = 4096;
const table = (pages: number): SlabTable => new SlabTable('n1' as NodeId, pages * PAGE);
const id = (text: string): ObjectId => text as ObjectId;
const owner = (text: string): WorkerId => text as WorkerId;

describe('the slabs of an arena', () => {
  test('are leased whole pages, and refused with what there is when full', () => {
    const slabs = table(4);
    assert.equal(slabs.lease(1, {}).size, PAGE);
    assert.equal(slabs.lease(2 * PAGE + 1, {}).offset, PAGE);
    assert.throws(
      () => slabs.lease(1, {}),
      (error: unknown) => error instanceof StoreFullError && error.capacityBytes === 4 * PAGE,
    );
  });

  test("survive their process while others' objects lie in them", () => {
    const slabs = table(2);
    const worker = {};
    const { slab, offset } = slabs.lease(2 * PAGE, worker);
    assert.ok(slabs.sealed({ objectId: id('d-1'), slab, offset, size: 10, serial: 1, ownerId: owner('d') }, worker));
    assert.ok(
      slabs.sealed(
        { objectId: id('w-1'), slab, offset: offset + PAGE, size: 10, serial: 1, ownerId: owner('w') },
        worker,
      ),
    );
    slabs.freed(id('w-1'));
    slabs.processGone(worker);
    assert.ok(slabs.find(id('d-1')));
    assert.throws(() => slabs.lease(1, {}), StoreFullError);
    slabs.freed(id('d-1'));
    assert.equal(slabs.usedBytes, 0);
    assert.equal(slabs.lease(2 * PAGE, {}).offset, 0);
  });

  test('say which process may use the region of a freed object again', () => {
    const slabs = table(2);
    const worker = {};
    const { slab, offset } = slabs.lease(PAGE, worker);
    slabs.sealed({ objectId: id('d-1'), slab, offset, size: 10, serial: 1, ownerId: owner('d') }, worker);
    assert.equal(slabs.freed(id('d-1')), worker);
    assert.equal(slabs.freed(id('d-1')), null);
    assert.equal(slabs.usedBytes, PAGE);
  });

  test('take no object outside the slab of its process', () => {
    const slabs = table(4);
    const worker = {};
    const { slab, offset } = slabs.lease(PAGE, worker);
    const object = { objectId: id('w-1'), slab, offset, size: 10, serial: 1, ownerId: owner('w') };
    assert.equal(slabs.sealed({ ...object, size: PAGE + 1 }, worker), false);
    assert.equal(slabs.sealed({ ...object, offset: offset + PAGE }, worker), false);
    assert.equal(slabs.sealed(object, {}), false);
  });

  test('never overlap, and all come back, whatever the order', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.integer({ min: 1, max: 5 * PAGE }), fc.nat())), (steps) => {
        const slabs = table(16);
        const live: { readonly lease: ReturnType<SlabTable['lease']>; readonly holder: object }[] = [];
        for (const [size, pick] of steps) {
          const holder = {};
          try {
            live.push({ lease: slabs.lease(size, holder), holder });
          } catch {
            const [gone] = live.splice(pick % live.length, 1);
            if (gone) slabs.giveBack(gone.lease.slab, gone.holder);
          }
          const sorted = live.map(({ lease }) => lease).sort((a, b) => a.offset - b.offset);
          for (const [index, lease] of sorted.entries())
            assert.ok(lease.offset + lease.size <= (sorted[index + 1]?.offset ?? 16 * PAGE));
        }
        for (const { lease, holder } of live) slabs.giveBack(lease.slab, holder);
        assert.equal(slabs.usedBytes, 0);
        assert.equal(slabs.lease(16 * PAGE, {}).offset, 0);
      }),
    );
  });

  test('that their holder never used are found again when it asks for more; those that it emptied are told apart', () => {
    const slabs = table(4);
    const worker = {};
    const lost = slabs.lease(2 * PAGE, worker);
    const { slab, offset } = slabs.lease(2 * PAGE, worker);
    const object = { objectId: id('w-1'), slab, offset, size: 10, serial: 1, ownerId: owner('w') };
    assert.ok(slabs.sealed(object, worker));
    assert.deepEqual(slabs.unusedOf(2 * PAGE, worker), lost);
    assert.equal(slabs.unusedOf(2 * PAGE + 1, worker), null);
    assert.equal(slabs.unusedOf(PAGE, {}), null);
    assert.equal(slabs.hasEmpty(PAGE, worker), false);
    slabs.freed(id('w-1'));
    assert.equal(slabs.hasEmpty(PAGE, worker), true);
  });
});
