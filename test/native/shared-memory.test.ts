// Memory of a device under two owners in one process: by reference, and what is refused. Between processes: test/tensors.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { native } from '#src/native/index.js';
import { CUDA, openCuda } from '../support/devices.js';

const cpu = () => native().createDevice({ threads: 1, isa: null, pin: false });

for (const [name, open] of [
  ['CPU', cpu],
  [CUDA.name, CUDA.open],
] as const) {
  test(`${name}: a share outlives its buffer, and devices of its place have the same memory`, () => {
    const [first, second] = [open(), open()];
    const buffer = first.allocate(100);
    first.write(buffer, 3, Uint8Array.of(1, 2));
    const share = first.share(buffer);
    assert.equal(share.place, first.place);
    const adopted = second.adopt(share);
    second.write(adopted, 4, Uint8Array.of(9));
    first.free(buffer);
    const seen = new Uint8Array(3);
    share.read(3, seen);
    assert.deepEqual([...seen], [1, 9, 0]);
    share.dispose();
    share.dispose();
    assert.throws(() => share.read(3, seen), /the share was disposed/);
    assert.throws(() => second.adopt(share), /the share was disposed/);
    second.read(adopted, 3, seen);
    assert.deepEqual([...seen], [1, 9, 0]);
    assert.equal(second.allocatedBytes, 0); // somebody else's
    second.free(adopted);
    first.dispose();
    second.dispose();
  });

  test(`${name}: bounds of shares are held, and handles that are none are refused`, () => {
    const device = open();
    const share = device.share(device.allocate(8));
    assert.throws(() => share.read(4, new Uint8Array(5)), /5 bytes at 4 end behind shared memory of 8/);
    assert.throws(() => device.share(device.allocate(8, true)), CUDA.open === open ? /memory of the host/ : /^/);
    assert.throws(() => device.adopt({ ...share, share: null } as never), /share: expected what share\(\) gave/);
    assert.throws(() => device.openShared(new Uint8Array(3), 8), /64 bytes, not 3|within its process alone/);
    share.dispose();
    device.dispose();
  });
}

test('CUDA: memory of one place cannot be adopted at another, nor opened by the process that shares it', () => {
  const [gpu, host] = [openCuda(), cpu()];
  const share = gpu.share(gpu.allocate(8));
  assert.throws(() => host.adopt(share), /memory of GPU \S+ of machine \S+ is not reachable from process/);
  assert.throws(() => gpu.openShared(share.handle!, 8), /cudaIpcOpenMemHandle/);
  const adopted = gpu.adopt(share);
  assert.throws(() => gpu.view(adopted), /use read\(\) and write\(\)/);
  gpu.dispose();
  host.dispose();
});
