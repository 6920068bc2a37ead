// Pairs of GPUs that exchange by NCCL, between machines too: made once, given up with who does not send, asked twice and answered once.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NativeDevice } from '#src/native/index.js';
import { grantWish, type Wish } from '#src/tensors/pair-sender.js';
import { takeByPair } from '#src/tensors/pair-taker.js';
import { openCuda, openEmulated } from '../support/devices.js';

const BYTES = 1000;
const HOST = '127.0.0.1'; // as if the other were of another machine

interface Sent {
  readonly device: NativeDevice;
  /** Asks for tensor number so and so, all of whose bytes are that number. */
  readonly ask: (tensor: number) => (wish: Wish) => Promise<string>;
  readonly wishes: Wish[];
}

/** A device whose tensors are asked for, each wish twice. */
function sender(device: NativeDevice): Sent {
  const wishes: Wish[] = [];
  const ask = (tensor: number) => async (wish: Wish) => {
    wishes.push(wish);
    const buffer = device.allocate(BYTES + 16);
    device.write(buffer, 16, new Uint8Array(BYTES).fill(tensor));
    const what = { device, share: device.share(buffer), offsetBytes: 16, bytes: BYTES, host: HOST };
    try {
      const answers = await Promise.all([grantWish(JSON.stringify(wish), what), grantWish(JSON.stringify(wish), what)]);
      assert.equal(answers[0], answers[1]);
      return answers[0];
    } finally {
      what.share.dispose();
      device.free(buffer);
    }
  };
  return { device, ask, wishes };
}

function bytesIn(device: NativeDevice, buffer: number | string): number[] {
  assert.ok(typeof buffer === 'number', String(buffer));
  const bytes = new Uint8Array(BYTES);
  device.read(buffer, 0, bytes);
  device.free(buffer);
  return [...new Set(bytes)];
}

for (const host of ['', HOST]) {
  test(`tensors come one after the other and at once over one group, ${host === '' ? 'of one machine' : 'by TCP'}`, async () => {
    const [from, device] = [sender(openCuda(0)), openCuda(2)];
    const take = (tensor: number) => takeByPair({ device, sender: `${host} a`, host }, from.ask(tensor), BYTES);
    try {
      assert.deepEqual(bytesIn(device, await take(1)), [1]);
      const taken = await Promise.all([2, 3, 4].map(take));
      assert.deepEqual(
        taken.map((buffer) => bytesIn(device, buffer)),
        [[2], [3], [4]],
      );
      assert.equal(from.wishes.filter(({ kind }) => kind === 'join').length, 1);
      assert.equal(device.allocatedBytes, 0);
      while (from.device.allocatedBytes > 0) await sleep(5);
    } finally {
      device.dispose();
      from.device.dispose();
    }
  });
}

test('who cannot send leaves nobody waiting, and the next tensor comes over a new group', async () => {
  const [from, device] = [sender(openCuda(0)), openCuda(2)];
  const ends = { device, sender: 'b', host: HOST };
  try {
    assert.deepEqual(bytesIn(device, await takeByPair(ends, from.ask(1), BYTES)), [1]);
    const refuses = (wish: Wish) => Promise.reject(new Error(`no ${wish.kind}`));
    assert.match(String(await takeByPair(ends, refuses, BYTES)), /no send|aborted the group/);
    assert.equal(device.allocatedBytes, 0);
    assert.deepEqual(bytesIn(device, await takeByPair(ends, from.ask(2), BYTES)), [2]);
    assert.equal(from.wishes.filter(({ kind }) => kind === 'join').length, 2);
  } finally {
    device.dispose();
    from.device.dispose();
  }
});

test('without NCCL the reason is said', async () => {
  const [from, device] = [sender(openCuda(0)), openEmulated(2, null)];
  try {
    const reason = await takeByPair({ device, sender: 'c', host: '' }, from.ask(1), BYTES);
    assert.match(String(reason), /^rank 1 has no NCCL/);
    assert.equal(device.allocatedBytes, 0);
  } finally {
    device.dispose();
    from.device.dispose();
  }
});
