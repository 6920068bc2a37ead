// What the compiler accepts and refuses of a user: each line below "@ts-expect-error" must stay an error, or the build fails.
import { test } from 'node:test';
import {
  ActorPool,
  actor,
  get,
  getActor,
  init,
  type ObjectRef,
  type ObjectRefGenerator,
  put,
  Queue,
  task,
  wait,
} from 'raylite';

class Counter {
  count = 0;
  add(amount: number): number {
    this.count += amount;
    return this.count + this.secret();
  }
  async describe(): Promise<string> {
    return `${this.count}`;
  }
  private secret(): number {
    return 0;
  }
}
const square = (x: number): number => x * x;
const pair = (x: number): [number, string] => [x, `${x}`];
async function* letters(text: string): AsyncGenerator<string, number> {
  yield text;
  return 1;
}
class Reader {
  *lines(count: number): Generator<{ readonly line: string }> {
    yield { line: `${count}` };
  }
  read(path: string): Promise<[Uint8Array, number]> {
    return Promise.resolve([new Uint8Array(path.length), 1]);
  }
  protected hidden(): void {}
}

/** Compiled, never called. */
export async function accepted(): Promise<unknown[]> {
  const counter = await actor(Counter, { cpus: 1, maxRestarts: 3 }).create();
  const ref: ObjectRef<number> = counter.add(2);
  const text: string = await counter.describe(); // a promise inside a ref is awaited with it
  const [squared, both]: [number, [number, string]] = await get([task(square)(ref), task(pair)(await ref)]);
  const stored: ObjectRef<{ a: number }> = put({ a: 1 });
  const found = await getActor<Counter>('hits');
  const { ready }: { ready: ObjectRef<number>[] } = await wait([counter.add(ref), found.add(1)]);
  return [text, squared, both, stored, ready];
}

/** Compiled, never called: what generators, several returns, pools and queues give. */
export async function given(): Promise<unknown[]> {
  const reader = await actor(Reader, {
    concurrencyGroups: { io: 2 },
    methods: { read: { concurrencyGroup: 'io', retryOn: [RangeError] } },
  }).create();
  const items: ObjectRefGenerator<string> = task(letters)('abc');
  for await (const line of reader.lines(put(3)).values()) line.line.toUpperCase();
  const [bytes, count]: readonly [ObjectRef<Uint8Array>, ObjectRef<number>] = reader.read.options({ numReturns: 2 })(
    'a',
  );
  const [x, text]: readonly [ObjectRef<number>, ObjectRef<string>] = task(pair, { numReturns: 2 })(1);
  const each: ObjectRefGenerator<string | number> = task(pair, { numReturns: 'streaming' })(1);
  const pool = new ActorPool([reader]);
  for await (const [first] of pool.map((free, path: string) => free.read(path), ['a'])) first.byteLength;
  const queue: Queue<string> = await Queue.create({ sizeMax: 3 });
  const next: string = await queue.get({ timeoutMs: 1 });
  // @ts-expect-error the items are texts
  const wrong: ObjectRefGenerator<number> = task(letters)('abc');
  // @ts-expect-error a protected method
  reader.hidden();
  // @ts-expect-error no such method
  actor(Reader, { methods: { write: {} } });
  // @ts-expect-error a text is no predicate
  task(pair, { retryOn: ['RangeError'] });
  // @ts-expect-error the queue holds texts
  await queue.put(3);
  // @ts-expect-error an option of actors
  task(pair, { concurrencyGroup: 'io' });
  return [items, bytes, count, x, text, each, next, wrong];
}

function twice(value: number): number;
function twice(value: string): Promise<string>;
function twice(value: number | string): number | Promise<string> {
  return typeof value === 'number' ? 2 * value : Promise.resolve(value + value);
}
class Parser {
  parse(text: string): number;
  parse(bytes: Uint8Array, from: number): Promise<boolean>;
  parse(data: string | Uint8Array, from = 0): number | Promise<boolean> {
    return typeof data === 'string' ? data.length : Promise.resolve(from === 0);
  }
  same<Value>(value: Value): Value {
    return value;
  }
}

/** Compiled, never called: each overload has its own result, and generic functions that of their arguments. */
export async function overloaded(): Promise<unknown[]> {
  const parser = await actor(Parser).create();
  const length: ObjectRef<number> = parser.parse(put('text'));
  const isThere: ObjectRef<boolean> = parser.parse.options({ maxTaskRetries: 1 })(new Uint8Array(2), put(1));
  const [number, text]: [ObjectRef<number>, ObjectRef<string>] = [task(twice)(put(2)), task(twice, { cpus: 2 })('a')];
  const identity = <Value>(value: Value): Value => value;
  const same: ObjectRef<number> = task(identity)(3);
  // @ts-expect-error the second overload takes two
  parser.parse(new Uint8Array(2));
  // @ts-expect-error no overload takes a truth value
  task(twice)(true);
  // @ts-expect-error the overload of texts gives a text
  const wrong: ObjectRef<number> = task(twice)('a');
  return [length, isThere, number, text, same, parser.same(1), wrong];
}

/** Compiled, never called. */
export async function refused(): Promise<void> {
  const counter = await actor(Counter).create();
  // @ts-expect-error a text is no number
  counter.add('2');
  // @ts-expect-error the ref of a text is no number either
  counter.add(counter.describe());
  // @ts-expect-error an argument is missing
  counter.add();
  // @ts-expect-error there is no such method
  counter.subtract(1);
  // @ts-expect-error a private method
  counter.secret();
  // @ts-expect-error a field
  counter.count;
  // @ts-expect-error the result is a number
  const text: string = await counter.add(1);
  // @ts-expect-error the constructor takes nothing
  await actor(Counter).create(text);
  // @ts-expect-error there is no such option
  actor(Counter, { cpu: 1 });
  // @ts-expect-error not a class
  actor(square);
  // @ts-expect-error not a function
  task(Counter);
  // @ts-expect-error a text is no number
  task(square)('2');
  // @ts-expect-error an option of actors
  task(square, { maxRestarts: 1 });
  // @ts-expect-error there is no such option
  await init({ addres: 'auto' });
  // @ts-expect-error not a ref
  await get(3);
}

test('the types of the API refuse what would fail when it runs', () => {
  // Checked when this file is compiled.
});
