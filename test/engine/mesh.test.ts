// Meshes of ranks: the numbering, and that groups cut the ranks as they say, for any sizes of the axes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  AXES,
  coordinatesOf,
  GROUPS,
  type GroupName,
  groupIndex,
  groupOf,
  jointsOf,
  LINKS,
  type Mesh,
  meshOf,
  meshOver,
  rankAt,
  worldSizeOf,
} from '#src/engine/index.js';

const size = fc.integer({ min: 1, max: 4 });
const meshes = fc.record({ tensor: size, sequence: size, data: size, pipeline: size }).chain((axes) => {
  const zero = axes.sequence * axes.data;
  const divisorOf = (whole: number) =>
    fc.constantFrom(...Array.from({ length: whole }, (_, i) => i + 1).filter((each) => whole % each === 0));
  return fc
    .record({ zeroInner: divisorOf(zero), generation: divisorOf(axes.tensor * axes.pipeline * zero) })
    .map((more) => meshOf({ ...axes, ...more }));
});

const isLink = (name: string) => (LINKS as readonly string[]).includes(name);
const allRanks = (mesh: Mesh) => Array.from({ length: worldSizeOf(mesh) }, (_, rank) => rank);

test('a mesh of 2 × 2 × 2 × 2 numbers its ranks with tensor as the fastest axis and pipeline as the slowest', () => {
  const mesh = meshOf({ tensor: 2, sequence: 2, data: 2, pipeline: 2, zeroInner: 2, generation: 4 });
  const groups = Object.fromEntries(GROUPS.map((name) => [name, groupOf(mesh, 5, name)]));
  assert.deepEqual(coordinatesOf(mesh, 5), { tensor: 1, sequence: 0, data: 1, pipeline: 0 });
  assert.deepEqual(groups, {
    zero: { ranks: [1, 3, 5, 7], index: 2, size: 4 },
    tensor: { ranks: [4, 5], index: 1, size: 2 },
    sequence: { ranks: [5, 7], index: 0, size: 2 },
    pipeline: { ranks: [5, 13], index: 0, size: 2 },
    world: { ranks: allRanks(mesh), index: 5, size: 16 },
    zeroInner: { ranks: [5, 7], index: 0, size: 2 },
    zeroOuter: { ranks: [1, 5], index: 1, size: 2 },
    tied: { ranks: [5, 13], index: 0, size: 2 },
    generation: { ranks: [4, 5, 6, 7], index: 1, size: 4 },
  });
});

test('ranks and coordinates are each other’s inverse', () => {
  fc.assert(
    fc.property(meshes, (mesh) => {
      for (const rank of allRanks(mesh)) {
        const coordinates = coordinatesOf(mesh, rank);
        for (const axis of AXES) assert.ok(coordinates[axis] >= 0 && coordinates[axis] < mesh[axis]);
        assert.equal(rankAt(mesh, coordinates), rank);
      }
    }),
  );
});

test('groups of a name cut the ranks into equal parts, and all members see the same group', () => {
  fc.assert(
    fc.property(meshes, fc.constantFrom(...GROUPS), (mesh, name) => {
      const seen = new Map<string, number>();
      for (const rank of allRanks(mesh)) {
        const group = groupOf(mesh, rank, name);
        assert.equal(group.ranks[group.index], rank);
        assert.deepEqual(
          group.ranks,
          group.ranks.toSorted((a, b) => a - b),
        );
        assert.equal(group.size, expectedSize(mesh, name, rank));
        seen.set(group.ranks.join(), (seen.get(group.ranks.join()) ?? 0) + 1);
      }
      for (const [ranks, count] of seen) assert.equal(count, ranks.split(',').length);
    }),
  );
});

const expectedSize = (mesh: Mesh, name: GroupName, rank: number): number => {
  const zero = mesh.data * mesh.sequence;
  if (name === 'world') return worldSizeOf(mesh);
  if (name === 'zero') return zero;
  if (name === 'zeroInner') return mesh.zeroInner;
  if (name === 'zeroOuter') return zero / mesh.zeroInner;
  if (name === 'tied') {
    const { pipeline } = coordinatesOf(mesh, rank);
    return mesh.pipeline > 1 && (pipeline === 0 || pipeline === mesh.pipeline - 1) ? 2 : 1;
  }
  return mesh[name];
};

test('a rank joins one communicator for each set of ranks, under the same names as its peers', () => {
  fc.assert(
    fc.property(meshes, (mesh) => {
      const namesById = new Map<string, string>();
      for (const rank of allRanks(mesh)) {
        const joints = jointsOf(mesh, rank).filter(({ names }) => !names.some(isLink));
        for (const { id, names } of joints) {
          const joined = names.join();
          assert.equal(namesById.get(id) ?? joined, joined);
          namesById.set(id, joined);
        }
        assert.equal(new Set(joints.map(({ ranks }) => ranks.join())).size, joints.length);
        const joined = new Set(joints.flatMap(({ names }) => names));
        for (const name of GROUPS) assert.equal(joined.has(name), groupOf(mesh, rank, name).size > 1);
      }
    }),
  );
});

test('neighbours of a pipeline join a communicator for each way, the sender first; interleaved chunks go round', () => {
  const links = (mesh: Mesh, rank: number) =>
    jointsOf(mesh, rank).flatMap(({ names, ranks, id }) => (isLink(names[0]!) ? [`${names} ${ranks} ${id}`] : []));
  const plain = meshOf({ pipeline: 3, data: 2 });
  assert.deepEqual(links(plain, 1), ['forwardOut 1,3 forward.1.3', 'backwardIn 3,1 backward.3.1']);
  assert.deepEqual(links(plain, 3), [
    'forwardIn 1,3 forward.1.3',
    'forwardOut 3,5 forward.3.5',
    'backwardIn 5,3 backward.5.3',
    'backwardOut 3,1 backward.3.1',
  ]);
  const interleaved = meshOf({ pipeline: 2, chunks: 2 });
  assert.deepEqual(links(interleaved, 0), [
    'forwardIn 1,0 forward.1.0',
    'forwardOut 0,1 forward.0.1',
    'backwardIn 1,0 backward.1.0',
    'backwardOut 0,1 backward.0.1',
  ]);
  assert.throws(() => meshOf({ chunks: 2 }), /mesh\.chunks: expected 1 without a pipeline/);
});

test('data parallel ranks need one communicator alone', () => {
  assert.deepEqual(jointsOf(meshOf({ data: 3 }), 1), [
    { id: 'zero.0', names: ['zero', 'world', 'zeroOuter'], ranks: [0, 1, 2], index: 1, size: 3 },
  ]);
  assert.deepEqual(jointsOf(meshOf(), 0), []);
  assert.equal(groupIndex('zero'), 0);
});

test('what the other axes leave of a world is data parallel, and a world that they do not divide is refused', () => {
  assert.equal(meshOver(12, { tensor: 2, pipeline: 3 }).data, 2);
  assert.throws(
    () => meshOver(6, { tensor: 4 }),
    /worldSize: expected a multiple of .* = 4 × 1 × 1 = 4.* 4 or 8 ranks/s,
  );
  assert.throws(() => meshOver(2, { tensor: 4 }), /Take 4 ranks/);
  assert.throws(() => meshOf({ tensor: 0 }), /mesh\.tensor: expected a positive integer/);
  assert.throws(() => meshOf({ data: 6, zeroInner: 4 }), /mesh\.zeroInner: expected a divisor of data × sequence = 6/);
  assert.throws(() => meshOf({ data: 6, generation: 4 }), /mesh\.generation: expected a divisor of the 6 ranks, got 4/);
  assert.throws(() => coordinatesOf(meshOf({ data: 2 }), 2), /rank: expected an integer from 0 to 1/);
});
