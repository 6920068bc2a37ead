// The native engine around its ops: memory, loading of sound and hostile plans, errors of a run, streams and waits.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type NativeDevice, native } from '#src/native/index.js';
import { PlanWriter } from '../support/native-plan.js';

function withDevice<T>(body: (device: NativeDevice) => T, threads = 2): T {
  const device = native().createDevice({ threads, isa: null, pin: false });
  let result: T;
  try {
    result = body(device);
  } catch (error) {
    device.dispose();
    throw error;
  }
  if (!(result instanceof Promise)) device.dispose();
  return result instanceof Promise ? (result.finally(() => device.dispose()) as T) : result;
}

const fails = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Error);
  assert.equal((error as Error & { code?: string }).code, code, error.message);
  assert.match(error.message, message);
  return true;
};

/** A plan of several ops, on both streams, with a wait each way. */
function soundPlan(): PlanWriter {
  const plan = new PlanWriter();
  const x = plan.tensor([4, 6], Array(24).fill(1));
  const w = plan.tensor([5, 6], Array(30).fill(2));
  const y = plan.tensor([4, 5]);
  const z = plan.tensor([4, 5]);
  const first = plan.op('linear', [x, w], [y], [0, 0], { path: 'model.first' });
  const second = plan.op('copy', [y], [z], [], { path: 'model.second', stream: 1, waits: [first] });
  plan.op('add', [z, y], [z], [], { path: 'model.third', waits: [second] });
  return plan;
}

test('memory is zeroed, page aligned in size, counted, and its view is one ArrayBuffer until it is freed', () =>
  withDevice((device) => {
    const id = device.allocate(3_000_001);
    assert.equal(device.allocatedBytes, 3_000_001);
    const view = device.view(id);
    assert.equal(view.byteLength, 3_000_001);
    assert.equal(device.view(id), view);
    assert.ok(new Uint8Array(view).every((byte) => byte === 0));
    device.free(id);
    assert.equal(view.byteLength, 0);
    assert.equal(device.allocatedBytes, 0);
    assert.throws(() => device.view(id), fails('ENGINE', /buffer 1 does not exist or was freed/));
  }));

test('dispose detaches every view, is safe to repeat, and later calls say so', () => {
  const device = native().createDevice({ threads: 1, isa: 'scalar', pin: true });
  const view = device.view(device.allocate(100));
  device.dispose();
  device.dispose();
  assert.equal(view.byteLength, 0);
  assert.throws(() => device.allocate(1), fails('ENGINE', /the device was disposed/));
});

test('an impossible allocation is an error', () =>
  withDevice((device) => {
    assert.throws(() => device.allocate(2 ** 50), fails('ENGINE', /cannot allocate 1125899906842624 bytes/));
    assert.throws(() => device.allocate(-1), /RangeError: bytes: expected an integer of 1/);
  }));

test('streams run in order, and wait for each other where the plan says so', () =>
  withDevice(async (device) => {
    const plan = new PlanWriter();
    const [a, b] = [plan.tensor([5000], Array(5000).fill(1)), plan.tensor([5000])];
    let last = plan.op('copy', [a], [b]);
    for (let i = 0; i < 40; i++) last = plan.op('add', [b, a], [b], [], { stream: i % 2 === 0 ? 1 : 0, waits: [last] });
    const loaded = plan.load(device);
    for (let i = 0; i < 20; i++) {
      await loaded.program.run();
      assert.ok(loaded.read(b).every((value) => value === 41));
    }
    const seconds = await loaded.program.profile();
    assert.equal(seconds.length, 41);
    assert.ok(seconds.every((value) => value >= 0));
  }, 3));

test('a second run while one is in progress is refused', () =>
  withDevice(async (device) => {
    const loaded = soundPlan().load(device);
    const first = loaded.program.run();
    let second: Promise<void> | null = null;
    try {
      second = loaded.program.run(); // the first may have finished already: then this one is legal
    } catch (error) {
      fails('ENGINE', /running a program/)(error);
    }
    await first;
    await second;
    loaded.program.dispose();
    assert.throws(() => loaded.program.run(), fails('ENGINE', /the program was disposed/));
  }));

test('disposing a device ends its run, whose promise settles', async () => {
  const device = native().createDevice({ threads: 2, isa: null, pin: false });
  const plan = new PlanWriter();
  const [x, y] = [plan.tensor([1 << 20]), plan.tensor([1 << 20])];
  for (let i = 0; i < 2000; i++) plan.op('add', [x, y], [x]);
  const run = plan.load(device).program.run();
  device.dispose();
  await assert.rejects(run, fails('ENGINE', /the device was disposed/));
});

test('results do not depend on the number of threads in matrix products', async () => {
  const results: number[][] = [];
  for (const threads of [1, 2, 5]) {
    await withDevice(async (device) => {
      const plan = new PlanWriter();
      const values = (n: number) => Array.from({ length: n }, (_, i) => Math.sin(i * i));
      const y = plan.tensor([100, 300]);
      plan.op('linear', [plan.tensor([100, 800], values(80000)), plan.tensor([300, 800], values(240000))], [y], [0, 0]);
      const loaded = plan.load(device);
      await loaded.program.run();
      results.push(loaded.read(y));
    }, threads);
  }
  assert.deepEqual(results[1], results[0]);
  assert.deepEqual(results[2], results[0]);
});

test('a value out of range names the model path, the row and the value, and the device runs on', () =>
  withDevice(async (device) => {
    const plan = new PlanWriter();
    const ids = plan.tensor([5], [0, 1, 9, -3, 2], 'i32');
    const y = plan.tensor([5, 4]);
    plan.op('embedding', [ids, plan.tensor([3, 4], Array(12).fill(1))], [y], [0], { path: 'transformer.wte' });
    const loaded = plan.load(device);
    await assert.rejects(
      loaded.program.run(),
      fails('ENGINE', /instruction 0 \(embedding, transformer\.wte\): ids\[2\] is 9, expected 0 <= value < 3/),
    );
    loaded.write(ids, [0, 1, 2, 0, 2]);
    await loaded.program.run();
    assert.ok(loaded.read(y).every((value) => value === 1));
  }));

test('labels, positions, slots and segments out of range are errors too', () =>
  withDevice(async (device) => {
    const run = async (build: (plan: PlanWriter) => void) => {
      const plan = new PlanWriter();
      build(plan);
      await plan.load(device).program.run();
    };
    const rejects = (build: (plan: PlanWriter) => void, message: RegExp) =>
      assert.rejects(run(build), fails('ENGINE', message));
    await rejects((plan) => {
      const [x, w] = [plan.tensor([2, 3]), plan.tensor([4, 3])];
      const outputs = [plan.tensor([1]), plan.tensor([2]), plan.tensor([1, 4])];
      plan.op('linear_cross_entropy', [x, w, plan.ints([4, -100]), plan.tensor([1])], outputs, [0, 1, 0, 0, 0]);
    }, /labels\[0\] is 4/);
    await rejects((plan) => {
      const tables = [plan.tensor([5, 1]), plan.tensor([5, 1])];
      plan.op(
        'rotary',
        [plan.tensor([2, 2]), ...tables, plan.ints([0, 5])],
        [plan.tensor([2, 2])],
        [1, 2, 2, 0, 0, 0, 0],
      );
    }, /positions\[1\] is 5/);
    await rejects((plan) => {
      plan.op('gather_rows', [plan.tensor([2, 2]), plan.ints([0, -1])], [plan.tensor([2, 2])]);
    }, /index\[1\] is -1/);
    await rejects((plan) => {
      const caches = [plan.tensor([2, 4, 64]), plan.tensor([2, 64, 4])];
      const where = [plan.ints([2]), plan.ints([0]), plan.tensor([2, 1], [0, 1], 'i32')];
      plan.op('kv_append', [plan.tensor([1, 4]), plan.tensor([1, 4]), ...where, ...caches], caches, [1, 4, 0, 4, 0, 4]);
    }, /slots\[0\] is 2/);
    await rejects((plan) => {
      const caches = [plan.tensor([2, 4, 64]), plan.tensor([2, 64, 4])];
      const where = [plan.ints([1]), plan.ints([64]), plan.tensor([2, 2], [0, 0, 1, 2], 'i32')];
      plan.op(
        'attention_cached',
        [plan.tensor([1, 4]), ...caches, ...where],
        [plan.tensor([1, 4])],
        [1, 1, 4, 1, 0, 0, 4],
      );
    }, /blocks\[3\] is 2/);
    for (const [starts, ends, message] of [
      [[0, 0, 5], [3, 3, 3], /starts\[2\] is 5/],
      [[0, 0, 0], [3, 3, 4], /ends\[2\] is 4/],
      [[0, 1, 1], [1, 2, 2], /starts\[2\] is 1/],
      [[-1, 0, 0], [3, 3, 3], /starts\[0\] is -1/],
    ] as const) {
      await rejects((plan) => {
        const x = plan.tensor([3, 2]);
        const mask = [plan.ints([...starts]), plan.ints([...ends])];
        const attributes = [1, 1, 2, 1, 1, 0, 0, 2, 0, 2, 0, 2];
        plan.op('attention', [x, x, x, ...mask], [plan.tensor([3, 2]), plan.tensor([3, 1])], attributes);
      }, message);
    }
  }));

test('a plan that breaks an op’s contract names the instruction, the op, the path and the fault', () =>
  withDevice((device) => {
    const rejects = (
      code: string,
      message: RegExp,
      build: (plan: PlanWriter) => void,
      groups: readonly null[] = [],
    ) => {
      const plan = new PlanWriter();
      build(plan);
      assert.throws(() => plan.load(device, groups), fails(code, message));
    };
    rejects('PLAN', /instruction 0 \(conv, a\.b\): there is no such op/, (plan) =>
      plan.op('conv', [], [], [], { path: 'a.b' }),
    );
    rejects('SHAPE', /instruction 0 \(linear, h\.0\): input "w" has dims \[5, 7\], expected \[O, I=6\]/, (plan) =>
      plan.op('linear', [plan.tensor([4, 6]), plan.tensor([5, 7])], [plan.tensor([4, 5])], [0, 0], { path: 'h.0' }),
    );
    rejects('SHAPE', /input "ids" is f32, expected i32/, (plan) =>
      plan.op('embedding', [plan.tensor([4]), plan.tensor([5, 7])], [plan.tensor([4, 7])], [0]),
    );
    rejects('SHAPE', /output "y" is missing/, (plan) => plan.op('copy', [plan.tensor([4])], []));
    rejects('SHAPE', /takes 1 inputs, 2 given/, (plan) =>
      plan.op('copy', [plan.tensor([4]), plan.tensor([4])], [plan.tensor([4])]),
    );
    rejects('SHAPE', /takes 0 attributes, 1 given/, (plan) =>
      plan.op('copy', [plan.tensor([4])], [plan.tensor([4])], [1]),
    );
    rejects('SHAPE', /attribute "kind" is 1\.5, expected an integer from 0 to 7/, (plan) =>
      plan.op('activation', [plan.tensor([4])], [plan.tensor([4])], [1.5]),
    );
    const barrier = (plan: PlanWriter) => plan.op('barrier', [], [], [1]);
    rejects('SHAPE', /needs a communicator, .* without any/, barrier);
    rejects('SHAPE', /needs a communicator, .* without that of group 1/, barrier, [null, null]);
    rejects('SHAPE', /heads of q end at column 16 of 12/, (plan) => {
      const x = plan.tensor([3, 12]);
      const mask = [plan.ints([0, 0, 0]), plan.ints([3, 3, 3])];
      const outputs = [plan.tensor([3, 16]), plan.tensor([3, 4])];
      plan.op('attention', [x, x, x, ...mask], outputs, [4, 4, 4, 1, 1, 0, 0, 4, 0, 4, 0, 4]);
    });
    rejects('SHAPE', /heads of dq, dk, dv share columns/, (plan) => {
      const [x, o, lse] = [plan.tensor([1, 4]), plan.tensor([1, 4]), plan.tensor([1, 1])];
      const d = plan.tensor([1, 4]);
      const mask = [plan.ints([0]), plan.ints([1])];
      plan.op('attention_backward', [o, o, lse, x, x, x, ...mask], [d, d, d], [1, 1, 4, 1, 1, 0, 0, 4, 0, 4, 0, 4]);
    });
    rejects('PLAN', /output "y" overlaps input "b"/, (plan) => {
      const [a, b] = [plan.tensor([4]), plan.tensor([4])];
      plan.op('add', [a, b], [b]);
    });
    rejects('PLAN', /output "y" overlaps input "a"/, (plan) => {
      const a = plan.tensor([4]);
      plan.op('add', [a, plan.tensor([4])], [plan.at(a.offsetBytes + 4, [4])]);
    });
    rejects('SHAPE', /must lie on the bytes of input "p"/, (plan) => {
      const scalars = [plan.tensor([1]), plan.tensor([1]), plan.tensor([1])];
      const [p, m, v, g] = [plan.tensor([4]), plan.tensor([4]), plan.tensor([4]), plan.tensor([4])];
      plan.op('adamw', [p, m, v, g, ...scalars], [plan.tensor([4]), m, v], [0.9, 0.9, 1e-8, 0, 0, 1, 1]);
    });
    rejects('PLAN', /tensor 1: 16 bytes at 128 do not fit buffer 0 "memory" of 128 bytes/, (plan) => {
      plan.tensor([4]);
      plan.at(128, [4]);
    });
    rejects('PLAN', /waits for an instruction that waits for it/, (plan) => {
      const [a, b] = [plan.tensor([4]), plan.tensor([4])];
      plan.op('fill', [], [a], [1], { waits: [1] });
      plan.op('fill', [], [b], [1], { stream: 1, waits: [0] });
    });
    rejects('PLAN', /waits for instruction 0 of its own stream/, (plan) => {
      plan.op('fill', [], [plan.tensor([4])], [1]);
      plan.op('fill', [], [plan.tensor([4])], [1], { waits: [0] });
    });
    const small = device.allocate(64);
    assert.throws(
      () => device.load(soundPlan().encode(), [small], []),
      fails('PLAN', /buffer 0 "memory" needs \d+ bytes, 64 given/),
    );
    assert.throws(() => device.load(soundPlan().encode(), [], []), fails('PLAN', /has 1 buffers, 0 given/));
  }));

test('damaged plans are refused or run within their buffers, never crash', () =>
  withDevice(async (device) => {
    const plan = soundPlan();
    const sound = plan.encode();
    const buffer = device.allocate(plan.bytes);
    device.load(sound, [buffer], []).dispose();
    let state = 12345;
    const next = (limit: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return Math.floor((state / 2 ** 32) * limit);
    };
    let refused = 0;
    const attempt = async (bytes: Uint8Array) => {
      let program: ReturnType<NativeDevice['load']>;
      try {
        program = device.load(bytes, [buffer], []);
      } catch (error) {
        fails((error as { code: string }).code === 'SHAPE' ? 'SHAPE' : 'PLAN', /plan: |instruction \d+/)(error);
        refused++;
        return;
      }
      await program.run(); // floats have no forbidden values in this plan
      program.dispose();
    };
    for (let length = 0; length < sound.length; length++) await attempt(sound.slice(0, length));
    assert.ok(refused >= sound.length - 8, 'only padding may be missing');
    for (let round = 0; round < 6000; round++) {
      const bytes = sound.slice();
      for (let flips = 1 + next(3); flips > 0; flips--) {
        const at = next(bytes.length);
        bytes[at] = round % 2 === 0 ? bytes[at]! ^ (1 << next(8)) : next(256);
      }
      await attempt(bytes);
    }
    for (let round = 0; round < 3000; round++) {
      const bytes = sound.slice();
      const words = new DataView(bytes.buffer);
      const extreme = [0, 1, 2, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff][next(7)]!;
      words.setUint32(4 * next(bytes.length / 4), extreme, true);
      await attempt(bytes);
    }
    assert.ok(refused > 3000, `${refused} refused`);
  }));
