// A driver that does, each time its parent asks, all that makes messages, and says what came of each part:
// `fault-driver.js HEAD FAR-NODE NOTES`.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  actor,
  cancel,
  get,
  getActor,
  init,
  kill,
  kvDelete,
  kvGet,
  kvPut,
  listNamedActors,
  nodes,
  type ObjectRef,
  placementGroup,
  put,
  reportRun,
  stop,
  task,
  wait,
} from '#src/client/index.js';
import {
  crash,
  items,
  large,
  largeAndSmall,
  levelsBelow,
  Noting,
  note,
  refItems,
  refs,
  Shelf,
  says,
  sumOf,
  Unborn,
  untilCancelled,
} from './fault-code.js';

/** What came of a part: its value, or the code of its error. */
export type Told = { readonly value: unknown } | { readonly code: string; readonly message: string };

const HUNG_MS = 20_000;
const COUNT = 3;

const [, , address = '', farId, notes = ''] = process.argv;
const cluster = await init({ address, logToDriver: false });
const far = { schedulingStrategy: `node:${farId}` } as const;
const http = (path: string, options: RequestInit = {}): Promise<Response> =>
  fetch(`${cluster.httpUrl}${path}`, {
    ...options,
    headers: { authorization: `Bearer ${process.env.RAYLITE_TOKEN}`, 'content-type': 'application/json' },
  });
const json = async (path: string, options: RequestInit = {}): Promise<Record<string, unknown>> =>
  (await (await http(path, options)).json()) as Record<string, unknown>;

/** Each with what it is worth when nothing is lost; `key` is of this run alone. */
const parts: Readonly<Record<string, (key: string) => Promise<unknown>>> = {
  calls: async (key) => {
    const noting = await actor(Noting).create();
    const told = await each((index) => noting.note(notes, `${key}-calls-${index}`));
    await kill(noting);
    return told;
  },
  tasks: (key) => each((index) => task(note, { maxRetries: 0 })(notes, `${key}-tasks-${index}`)),
  retriedCalls: async (key) => {
    const noting = await actor(Noting, { maxRestarts: -1, maxTaskRetries: -1, ...far }).create();
    const told = await each((index) => noting.note(notes, `${key}-retriedCalls-${index}`));
    await stop(noting);
    return told;
  },
  retriedTasks: (key) => each((index) => task(note, { maxRetries: -1 })(notes, `${key}-retriedTasks-${index}`)),
  items: async () => {
    const values: number[] = [];
    for await (const item of task(items, { generatorBackpressure: 2, maxRetries: -1, ...far })(4))
      values.push(await item);
    return values;
  },
  several: async () => {
    const [first, second] = task(largeAndSmall, { numReturns: 2, maxRetries: -1, ...far })(2);
    return [sumOf(await first), await second];
  },
  handedOn: async () => {
    const made = task(large, { maxRetries: -1 })(3);
    return await task(sumOf, { maxRetries: -1, ...far })(made);
  },
  itemRefs: async () => {
    const values: number[] = [];
    for await (const { ref } of task(refItems, { ...far })(3).values()) values.push(await ref);
    return values;
  },
  shelf: async () => {
    const shelf = await actor(Shelf, far).create();
    const refs = [put(1), put(2)];
    await shelf.keep(refs as never);
    for (const ref of refs) ref.release();
    const { ref, large: stored } = await shelf.gives(7);
    const value = [await shelf.read(), await ref, sumOf(await stored)];
    await kill(shelf);
    return value;
  },
  cancelled: async (key) => {
    const ref = task(untilCancelled)(notes, `${key}-retried-cancelled`);
    while (!readFileSync(notes, 'utf8').includes(`${key}-retried-cancelled`)) await wait([ref], { timeoutMs: 5 });
    cancel(ref);
    return await get(ref).catch((error: { code: string }) => error.code);
  },
  crashed: () => get(task(crash, { maxRetries: 0 })()).catch((error: { code: string }) => error.code),
  unborn: async () => {
    const unborn = actor(Unborn).create();
    return await unborn.then(
      () => 'born',
      (error: { code: string }) => error.code,
    );
  },
  named: async (key) => {
    const name = `named-${key}`;
    const one = await actor(Noting, { name }).create();
    const same = await actor(Noting, { name, getOrCreate: true }).create();
    const found = await getActor<Noting>(name);
    const count = (await listNamedActors()).filter((each) => JSON.stringify(each).includes(name)).length;
    await kill(one);
    const after = await Promise.resolve(found.note(notes, 'dead')).catch((error: { code: string }) => error.code);
    return [String(same) === String(one), count, after];
  },
  kept: async (key) => {
    await kvPut(key, new Uint8Array([7]));
    const [there] = (await kvGet(key)) ?? [];
    await kvDelete(key);
    return [there, await kvGet(key), (await nodes()).filter(({ isAlive }) => isAlive).length];
  },
  group: async () => {
    const group = await placementGroup({ bundles: [{ cpus: 1 }], strategy: 'PACK' });
    await sleep(150); // what the head said a moment ago would not be asked again
    await group.ready();
    const value = await task(sumOf, { maxRetries: -1, placementGroup: { group, bundleIndex: 0 } })(large(1));
    const { state } = await group.info();
    await group.remove();
    return [value, state];
  },
  deep: () => get(task(levelsBelow, { maxRetries: -1 })(2)),
  spilled: async () => {
    const refs: ObjectRef<Float32Array>[] = [];
    for (let value = 0; value < 20; value += 1) {
      refs.push(put(new Float32Array(1_000_000).fill(value)));
      await wait(refs.slice(-1));
    }
    let sum = 0;
    for (const ref of refs) {
      sum += (await ref)[0]!;
      ref.release();
    }
    return sum;
  },
  job: async () => {
    const submit = async (entrypoint: string): Promise<string> => {
      const body = JSON.stringify({ entrypoint });
      return String((await json('/api/jobs/', { method: 'POST', body })).submission_id);
    };
    const ends = async (id: string): Promise<unknown> => {
      for (;;) {
        const { status } = await json(`/api/jobs/${id}`);
        if (status !== 'PENDING' && status !== 'RUNNING') return status;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    };
    const [short, long] = await Promise.all([submit('echo hello'), submit('sleep 1000')]);
    const first = await ends(short);
    await http(`/api/jobs/${long}/stop`, { method: 'POST' });
    return [first, await ends(long)];
  },
  told: async (key) => {
    await task(says)('hello');
    await reportRun(key, JSON.stringify({ runId: key, name: key, state: 'RUNNING', step: 1, totalSteps: 2 }));
    return 'told';
  },
  refused: () => kvPut('', new Uint8Array()).catch((error: { code: string }) => error.code),
  lingers: async () => {
    const [ref] = await task(refs, far)();
    await sleep(1_500); // its lease ends meanwhile
    return await ref;
  },
  late: async (key) => {
    const whole = { cpus: 2, ...far };
    const first = task(untilCancelled, whole)(notes, `${key}-retried-late`);
    const second = task(sumOf, { ...far, maxRetries: -1 })(large(1)); // told after 3 s what it waits for
    await sleep(3_500);
    cancel(first);
    return await second;
  },
  surveyed: async () => {
    const kept = put(large(1));
    await task(says)('hello');
    const [objects, calls] = await Promise.all([http('/api/objects'), http('/api/calls')]);
    const sum = sumOf(await kept);
    return [objects.status, calls.status, sum];
  },
};

async function each(call: (index: number) => ObjectRef<string>): Promise<Told[]> {
  const told: Told[] = [];
  for (let index = 0; index < COUNT; index += 1) told.push(await tell(get(call(index))));
  return told;
}
async function tell(result: Promise<unknown>): Promise<Told> {
  let late: NodeJS.Timeout | undefined;
  const hung = new Promise<Told>((resolve) => {
    late = setTimeout(() => resolve({ code: 'HUNG', message: `nothing for ${HUNG_MS} ms` }), HUNG_MS);
  });
  const told = result.then(
    (value): Told => ({ value }),
    (error: { code?: string; message?: string }): Told => ({
      code: error.code ?? 'UNTYPED',
      message: String(error.message),
    }),
  );
  return await Promise.race([told, hung]).finally(() => clearTimeout(late));
}

process.on('message', ({ key, parts: wanted }: { readonly key: string; readonly parts: readonly string[] }) => {
  if (key === '') {
    cluster.close().then(
      () => process.disconnect(),
      () => process.disconnect(),
    );
    return;
  }
  Promise.all(wanted.map(async (name) => [name, await tell(parts[name]!(key))] as const))
    .then((told) => process.send?.(Object.fromEntries(told)))
    .catch((error: unknown) => process.send?.({ driver: { code: 'UNTYPED', message: String(error) } }));
});
process.send?.('ready');
