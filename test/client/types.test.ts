// What the compiler accepts and refuses of a user: each line below "@ts-expect-error" must stay an error, or the build fails.
import { test } from 'node:test';
import { actor, get, getActor, init, type ObjectRef, put, task, wait } from 'raylite';

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
