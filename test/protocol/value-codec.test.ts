// What survives a trip between processes, and what is refused.
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import type { ActorId } from '#src/common/index.js';
import { ActorDiedError, ConfigError, SerializationError, TaskError } from '#src/common/index.js';
import { decodeValue, encodeValue, errorOf, failureOf, wire } from '#src/protocol/index.js';

function trip(value: unknown, isShared = false): unknown {
  const { body, buffers } = encodeValue(value, null, 'value');
  return decodeValue(
    Uint8Array.from(body),
    buffers.map((bytes) => Uint8Array.from(bytes)),
    [],
    null,
    isShared,
  );
}

test('structured-clone types, cycles and shared parts survive', () => {
  const shared = { x: 1 };
  const value: Record<string, unknown> = {
    text: 'é漢🙂',
    numbers: [0, -1, 1.5, 2 ** 53, Number.NaN, Infinity],
    big: 2n ** 70n,
    map: new Map<unknown, unknown>([
      [1, 'one'],
      ['two', { three: 3 }],
    ]),
    set: new Set([1, 'a']),
    date: new Date(5),
    pattern: /a+/gi,
    url: new URL('https://example.test/x'),
    nothing: undefined,
    none: null,
    a: shared,
    b: shared,
  };
  value.self = value;
  const back = trip(value) as typeof value;
  assert.equal(back.self, back);
  assert.equal(back.a, back.b);
  assert.deepEqual(back, value);
});

test('typed arrays keep their kind and contents, out of the body', () => {
  const value = {
    f32: new Float32Array([1.5, -0, 3]),
    i64: new BigInt64Array([1n, -5n]),
    u8: new Uint8Array([1, 2]).subarray(1),
    buffer: Buffer.from('bytes'),
    memory: new Uint8Array([9, 8]).buffer,
    view: new DataView(new Uint8Array([7, 6, 5]).buffer, 1),
    clamped: new Uint8ClampedArray([300]),
    empty: new Float64Array(0),
  };
  for (const isShared of [false, true]) {
    const back = trip(value, isShared) as typeof value;
    assert.deepEqual(back, value);
    assert.ok(Buffer.isBuffer(back.buffer));
  }
  assert.ok(encodeValue(new Float32Array(1e6), null, 'value').body.length < 100);
});

test('shared buffers are viewed, not copied', () => {
  const { body, buffers } = encodeValue({ data: new Float32Array([1, 2, 3]) }, null, 'value');
  const memory = Uint8Array.from(buffers[0]!);
  const back = decodeValue(body, [memory], [], null, true) as { data: Float32Array };
  assert.equal(back.data.buffer, memory.buffer);
});

test('what cannot travel is refused with its path', () => {
  const socket = connect({ port: 1, host: '127.0.0.1' });
  socket.on('error', () => {});
  socket.destroy();
  const cases: [unknown, string][] = [
    [{ list: [1, { handler: () => 1 }] }, 'value.list[1].handler'],
    [{ 'odd key': Symbol('x') }, 'value["odd key"]'],
    [socket, 'value'],
    [new Map([['k', Promise.resolve()]]), 'value<entry 0>[1]'],
    [{ cache: new WeakMap() }, 'value.cache'],
  ];
  for (const [value, path] of cases) {
    assert.throws(
      () => encodeValue(value, null, 'value'),
      (error) => error instanceof SerializationError && error.path === path,
      path,
    );
  }
  assert.deepEqual(trip({ after: 'a refusal all is well' }), { after: 'a refusal all is well' });
});

test('errors keep name, message, own fields, cause and stack', () => {
  const cause = Object.assign(new RangeError('deep'), { at: 3 });
  const error = Object.assign(new Error('outer', { cause }), {
    name: 'MyError',
    code: 'E_MINE',
    list: new Float32Array([1]),
  });
  for (const back of [trip(error) as typeof error, errorOf(wireTrip(error)) as typeof error]) {
    assert.ok(back instanceof Error);
    assert.equal(back.name, 'MyError');
    assert.equal(back.code, 'E_MINE');
    assert.equal(back.stack, error.stack);
    assert.deepEqual(back.list, new Float32Array([1]));
    assert.ok(back.cause instanceof RangeError);
    assert.equal((back.cause as typeof cause).at, 3);
  }
});

const wireTrip = (error: unknown): wire.Failure => wire.Failure.decode(wire.Failure.encode(failureOf(error)).finish());

test("raylite's own errors come back as their class with their fields", () => {
  const died = new ActorDiedError({
    actorId: 'a1' as ActorId,
    className: 'Counter',
    detail: 'killed',
    lastLogLines: ['x'],
  });
  const back = errorOf(wireTrip(new TaskError({ functionName: 'f', workerId: null, nodeId: null }, { cause: died })));
  assert.ok(back instanceof TaskError);
  assert.equal(back.code, 'RAYLITE_TASK');
  assert.ok(back.cause instanceof ActorDiedError);
  assert.deepEqual(back.cause.lastLogLines, ['x']);
  assert.equal(back.cause.isRetryable, false);
  assert.ok(errorOf(wireTrip(new ConfigError('a.b', 'a number', 'x'))) instanceof ConfigError);
});

test('a field that cannot travel does not hide the error', () => {
  const error = Object.assign(new Error('broken'), { socket: { end: () => 1 }, kept: 1 });
  const back = errorOf(wireTrip(error)) as Error & { kept: number; socket?: unknown };
  assert.equal(back.message, 'broken');
  assert.equal(back.kept, 1);
  assert.equal(back.socket, undefined);
});

test('hostile bytes raise errors and pollute nothing', () => {
  for (const bytes of [
    [0xdf, 0xff, 0xff, 0xff, 0xff],
    [0xd4, 0x20, 0, 0x92, 9, 9],
    [0xdd, 0xff, 0xff, 0xff, 0xff, 1],
    [0xd4, 0x22, 0, 5],
  ]) {
    assert.throws(() => decodeValue(Uint8Array.from(bytes), [], [], null, false));
  }
  decodeValue(Buffer.from('81a95f5f70726f746f5f5f81a561646d696ec3', 'hex'), [], [], null, false);
  assert.equal(({} as { admin?: boolean }).admin, undefined);
  errorOf({ name: '__proto__', message: 'x', code: 'constructor' });
});

test('-0 survives wherever it is, with cycles and shared parts', () => {
  assert.ok(Object.is(trip(-0), -0));
  const part = { x: -0, y: 0 };
  const value: Record<string, unknown> = {
    list: [0, -0, 1],
    map: new Map([['k', -0]]),
    part,
    again: part,
    bytes: Buffer.from('b'),
  };
  value.self = value;
  const back = trip(value) as typeof value;
  assert.deepEqual(back.list, [0, -0, 1]); // strict: tells 0 from -0
  assert.ok(Object.is((back.map as Map<string, number>).get('k'), -0));
  assert.deepEqual(back.part, { x: -0, y: 0 });
  assert.equal(back.again, back.part);
  assert.equal(back.self, back);
  assert.equal(String(back.bytes), 'b');
});

test('the errors of an AggregateError survive', () => {
  const back = trip(new AggregateError([new TypeError('a'), new Error('b')], 'both')) as AggregateError;
  assert.ok(back instanceof AggregateError);
  assert.deepEqual(
    back.errors.map((error: Error) => [error.name, error.message]),
    [
      ['TypeError', 'a'],
      ['Error', 'b'],
    ],
  );
});

test('what would arrive as an empty object is refused, and what is nested too deeply', () => {
  const refused = (value: unknown, message: RegExp): void =>
    assert.throws(() => encodeValue(value, null, 'args[0]', 'Counter.add'), message);
  refused([(function* () {})()], /args\[0\]\[0\] of Counter\.add .*generator/);
  refused({ model: { hooks: [1, 2, () => 1] } }, /args\[0\]\.model\.hooks\[2\] of Counter\.add .* a function/);
  refused(new Blob(['x']), /a Blob/);
  let deep: object = {};
  for (let level = 0; level < 50_000; level += 1) deep = { deep };
  refused(deep, /nested too deeply/);
});
