// Generators that run on the cluster: items as they come, back-pressure, early ends, errors and crashes at their place.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  actor,
  CancelledError,
  type Cluster,
  ConfigError,
  cancel,
  get,
  getActor,
  init,
  kill,
  SerializationError,
  TaskError,
  task,
  WorkerCrashedError,
} from '#src/client/index.js';
import {
  blocks,
  callsByName,
  countTo,
  crashesOnce,
  divide,
  forever,
  letters,
  listOf,
  noted,
  noting,
  refsIn,
  Station,
  stumbles,
  sumRefs,
  twoLarge,
} from './support/call-code.js';

describe('generators', () => {
  let cluster: Cluster;
  const folder = mkdtempSync(join(tmpdir(), 'raylite-generators-'));
  let files = 0;
  const file = (): string => join(folder, `notes-${files++}`);
  before(async () => {
    cluster = await init({ numCpus: 2, objectStoreMemory: 128 * 1024 * 1024, logToDriver: false });
  });
  after(async () => {
    await cluster.close();
    rmSync(folder, { recursive: true });
  });

  test('give the refs of their items in order, whether sync or async', async () => {
    const numbers: number[] = [];
    for await (const ref of task(countTo)(1000)) numbers.push(await ref);
    assert.deepEqual(
      numbers,
      Array.from({ length: 1000 }, (_, index) => index + 1),
    );
    let text = '';
    for await (const letter of task(letters)('abc').values()) text += letter;
    assert.equal(text, 'abc');
    const items = task(letters)('xy');
    assert.equal(await items.count, 2);
    assert.deepEqual(await get([...items]), ['x', 'y']);
  });

  test('refs of items are passed on, also those of large items and of items with refs in them', async () => {
    const refs = [];
    for await (const ref of task(countTo)(4)) refs.push(ref);
    assert.equal(await task(sumRefs)(refs), 10);
    const sums = [];
    for await (const values of task(blocks)(5).values()) sums.push(values[49_999]);
    assert.deepEqual(sums, [0, 1, 2, 3, 4]);
    const inner = [];
    for await (const { ref } of task(refsIn)(3).values()) inner.push(await ref);
    assert.deepEqual(inner, [0, 1, 2]);
  });

  test('an item is there before the generator has ended', async () => {
    const items = task(forever)();
    const first = await items.next();
    assert.equal(await first.value, 0);
    await items.return();
  });

  test('with back-pressure a generator is never further ahead than allowed', async () => {
    const path = file();
    const items = task(noting, { generatorBackpressure: 2 })(path, 5);
    assert.deepEqual(await noted(path, 2), ['made 1', 'made 2']);
    await items.next();
    assert.deepEqual(await noted(path, 3), ['made 1', 'made 2', 'made 3']);
    assert.equal((await Promise.all(await all(items))).length, 4);
    assert.equal((await noted(path, 6)).at(-1), 'ended');
  });

  test('leaving the loop early ends the producer, whose finally runs', async () => {
    const path = file();
    for await (const ref of task(noting, { generatorBackpressure: 1 })(path, 1e9)) if ((await ref) === 2) break;
    const seen = await noted(path, 3);
    while (!(await noted(path, 3)).includes('ended')) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual(seen.slice(0, 2), ['made 1', 'made 2']);
  });

  test('cancel ends it with CancelledError at the place it had come to', async () => {
    const items = task(forever, { generatorBackpressure: 3 })();
    await items.next();
    cancel(items);
    await assert.rejects(all(items), CancelledError);
  });

  test('what it throws is thrown after the items that it gave', async () => {
    const items = task(stumbles)(2);
    assert.deepEqual([await (await items.next()).value, await (await items.next()).value], [1, 2]);
    await assert.rejects(items.next(), (error: unknown) => {
      assert.ok(error instanceof TaskError && error.cause instanceof RangeError);
      assert.match(error.stack ?? '', /generators\.test/);
      return true;
    });
    assert.equal((await items.next()).done, true);
  });

  test('when its worker dies it is run again and goes on behind the items that came', async () => {
    const values = [];
    for await (const value of task(crashesOnce)(file(), 5).values()) values.push(value);
    assert.deepEqual(values, [1, 2, 3, 4, 5]);
    const items = task(crashesOnce, { maxRetries: 0 })(file(), 5);
    assert.deepEqual([await (await items.next()).value, await (await items.next()).value], [1, 2]);
    await assert.rejects(items.next(), WorkerCrashedError);
  });

  test('methods of actors are generators too, also by way of a passed handle or a name', async () => {
    const station = await actor(Station, { name: 'generators' }).create();
    assert.deepEqual(await Promise.all(await all(station.count(3))), [1, 2, 3]);
    assert.deepEqual(await task(callsByName)(station), [1, 2, 3]);
    const found = await getActor<Station>('generators');
    assert.deepEqual(await Promise.all(await all(found.count(2))), [1, 2]);
    const [one, name] = found.pair.options({ numReturns: 2 })();
    assert.deepEqual([await one, await name], [1, 'one']);
    await kill(station);
  });

  test('any list can be asked for item by item, or as so many refs', async () => {
    assert.deepEqual(await Promise.all(await all(task(listOf, { numReturns: 'streaming' })(3))), [0, 1, 2]);
    const [quotient, remainder] = task(divide, { numReturns: 2 })(17, 5);
    assert.deepEqual([await quotient, await remainder], [3, 2]);
    const [large, small] = task(twoLarge, { numReturns: 2 })();
    assert.deepEqual([(await large)[99_999], await small], [2, 'small']);
    const [first] = task(divide, { numReturns: 3 })(1, 1);
    await assert.rejects(get(first), /was to return a list of 3 values \(numReturns\), not a list of 2/);
  });

  test('what cannot be done with a generator is refused', async () => {
    const items = task(forever)();
    assert.throws(() => [...items], ConfigError);
    assert.throws(() => task(sumRefs)(items as never), SerializationError);
    await items.return();
    await assert.rejects(
      all(task(divide, { numReturns: 'streaming' } as never)(1, 1) as never).then(async () => {
        throw new Error('a tuple is iterable');
      }),
      /a tuple is iterable/,
    );
    assert.throws(() => task(countTo, { generatorBackpressure: 0 }), { path: 'generatorBackpressure' });
  });
});

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const refs: T[] = [];
  for await (const ref of items) refs.push(ref);
  return refs;
}
