// Messages between ranks out of the memory of their devices, beside programs: by NCCL where both have joined their group (real or emulated,
// as many GPUs as ranks), else through the host; and what becomes of a rank that waits for one that does not come.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type NativeDevice, native } from '#src/native/index.js';
import { openCuda } from '../support/devices.js';
import { PlanWriter } from '../support/native-plan.js';
import { range } from './engine-reference.js';
import { type Member, together } from './members.js';
import { failureOf } from './peer-process.js';
import { Ranks } from './program-ranks.js';

const cpu = () => native().createDevice({ threads: 1, isa: null, pin: false });
const gpu = (index: number) => () => openCuda(index);
const BYTES = 300_000;

/** Bytes `BYTES` long behind 8 others, which tell messages apart. */
function filled(device: NativeDevice, first: number): number {
  const buffer = device.allocate(8 + BYTES);
  device.write(
    buffer,
    8,
    Uint8Array.from({ length: BYTES }, (_, i) => first + i),
  );
  return buffer;
}

function firstOf(device: NativeDevice, buffer: number): number {
  const bytes = new Uint8Array(BYTES);
  device.read(buffer, 8, bytes);
  assert.ok(bytes.every((byte, i) => byte === ((bytes[0]! + i) & 255)));
  return bytes[0]!;
}

/** What `call` failed with in this process. */
async function failed(call: () => unknown): Promise<Error & { readonly code?: string }> {
  try {
    await call();
  } catch (error) {
    return error as Error;
  }
  return assert.fail('expected a failure');
}

/** Rank 0 sends three messages, rank 1 takes them; what it got, and whether bytes went through the group over the host. */
async function threeMessages({
  device,
  group,
}: Member): Promise<readonly [got: readonly number[], throughHost: boolean]> {
  const buffers = [11, 22, 33].map((first) => filled(device, group.rank === 0 ? first : 0));
  const before = group.bytesSent;
  const peer = group.rank === 0 ? { to: 1 } : { from: 0 };
  await Promise.all(buffers.map((buffer) => device.pass(group, { buffer, offset: 8, bytes: BYTES, ...peer })));
  const isThroughHost = group.bytesSent - before >= 3 * BYTES;
  assert.ok(isThroughHost || group.bytesSent === before);
  return [buffers.map((buffer) => firstOf(device, buffer)), isThroughHost];
}

for (const [name, devices, isThroughHost] of [
  ['CPUs', [cpu, cpu], true],
  ['ranks that share a GPU', [gpu(0), gpu(0)], true],
  ['GPUs', [gpu(0), gpu(1)], false],
] as const) {
  test(`${name} pass messages in their order, ${isThroughHost ? 'through the host' : 'past the host'}`, async () => {
    const [sender, receiver] = await together(devices, threeMessages);
    assert.deepEqual(receiver![0], [11, 22, 33]);
    assert.equal(sender![1], isThroughHost);
  });
}

test('a message that nobody takes yet keeps no program from running', async () => {
  let hasRun = (): void => {};
  const running = new Promise<void>((resolve) => {
    hasRun = resolve;
  });
  await together([gpu(0), gpu(1)], async ({ device, group }) => {
    const buffer = filled(device, group.rank);
    const message = { buffer, offset: 8, bytes: BYTES };
    if (group.rank === 1) {
      await running;
      await device.pass(group, { ...message, from: 0 });
      assert.equal(firstOf(device, buffer), 0);
      return;
    }
    const sent = device.pass(group, { ...message, to: 1 });
    const plan = new PlanWriter();
    const [x, y] = [plan.tensor([4], [1, 2, 3, 4]), plan.tensor([4], [1, 1, 1, 1])];
    plan.op('add', [x, y], [x]);
    const loaded = plan.load(device);
    for (const _ of range(3)) await loaded.program.run();
    assert.deepEqual(loaded.read(x), [4, 5, 6, 7]);
    hasRun();
    await sent;
  });
});

test('a message that does not come is given up when the time is up, on all ranks', async () => {
  const failures = await together(
    [gpu(0), gpu(1)],
    async ({ device, group }) => {
      const message = { buffer: filled(device, 0), offset: 8, bytes: BYTES };
      const failure = await failed(async () => {
        if (group.rank === 1) await device.pass(group, { ...message, from: 0 });
        for (;;) {
          group.check();
          await sleep(10);
        }
      });
      return `${failure.code}: ${failure.message}`;
    },
    400,
  );
  for (const failure of failures) assert.match(failure, /^COMM: a message from a peer: a peer is late: .* for 400 ms/);
});

test('a rank that gives up ends the wait of the other', async () => {
  const [, failure] = await together([gpu(0), gpu(1)], async ({ device, group }) => {
    if (group.rank === 0) {
      group.abort('the kettle boils');
      return null;
    }
    const message = { buffer: filled(device, 0), offset: 8, bytes: BYTES };
    return failed(() => device.pass(group, { ...message, from: 0 }));
  });
  assert.equal(failure!.code, 'COMM');
  assert.match(failure!.message, /rank 10 aborted the group: the kettle boils/);
});

test('a rank that is killed is named by the one that waits for its message', async () => {
  await using ranks = await Ranks.start('shm', 2, { gpus: [0, 1] });
  const waiting = failureOf(ranks.peers[0]!.ask({ kind: 'receive', from: 1 }));
  await ranks.peers[1]!.kill('SIGKILL');
  const failure = await waiting;
  assert.equal(failure.code, 'COMM');
  assert.equal(failure.rank, 1, failure.message);
});

test('messages that do not lie in their buffer, or go to oneself, are refused', async () => {
  await together([cpu, cpu], async ({ device, group }) => {
    const buffer = device.allocate(64);
    const pass = (bytes: number, to: number) => () => device.pass(group, { buffer, offset: 8, bytes, to });
    assert.throws(pass(57, 1 - group.rank), /57 bytes at 8 end behind a buffer of 64/);
    assert.throws(pass(8, group.rank), /expected another rank, got this one/);
    assert.throws(pass(8, 2), /to: expected/);
  });
});
