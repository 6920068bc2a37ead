// How much of an arena has memory before anybody asks for it.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { prefaultBytes } from '#src/node/prefault.js';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

describe('the memory that an arena asks for ahead of its use', () => {
  test('is 256 MiB in a new arena, an eighth of a small one', () => {
    assert.equal(prefaultBytes(0, 8 * GIB), 256 * MIB);
    assert.equal(prefaultBytes(0, 64 * MIB), 8 * MIB);
  });
  test('is as much again as was in use, at most 1 GiB more, and never more than there is', () => {
    assert.equal(prefaultBytes(600 * MIB, 8 * GIB), 1200 * MIB);
    assert.equal(prefaultBytes(3 * GIB, 16 * GIB), 4 * GIB);
    assert.equal(prefaultBytes(8 * GIB, 8 * GIB), 8 * GIB);
  });
});
