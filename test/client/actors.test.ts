// Actors beyond the plain call: groups, limits, endings in good order, names, detached lives.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  ActorDiedError,
  ActorUnavailableError,
  actor,
  type Cluster,
  ConfigError,
  exitActor,
  get,
  getActor,
  init,
  kill,
  listNamedActors,
  PendingCallsLimitError,
  stop,
  TaskError,
  task,
} from '#src/client/index.js';
import { leavesBehind, noted, notes, Station } from './support/call-code.js';

const actors = (local: boolean) => () => {
  let cluster: Cluster;
  const folder = mkdtempSync(join(tmpdir(), 'raylite-actors-'));
  let files = 0;
  const file = (): string => join(folder, `notes-${files++}`);
  before(async () => {
    cluster = await init({ local, numCpus: 2, namespace: 'tests', logToDriver: false });
  });
  after(async () => {
    await cluster.close();
    rmSync(folder, { recursive: true });
  });

  test('calls of one group run whatever fills another, each group as many as it allows', async () => {
    const station = await actor(Station, {
      maxConcurrency: 1,
      concurrencyGroups: { control: 1, wide: 2 },
      methods: { release: { concurrencyGroup: 'control' }, present: { concurrencyGroup: 'control' } },
    }).create();
    const waiting = [station.waits(), station.waits()]; // one at a time
    const wide = [1, 2, 3].map(() => station.waits.options({ concurrencyGroup: 'wide' })());
    while ((await station.present()) < 3) await new Promise((resolve) => setTimeout(resolve, 5));
    let isOpen = true;
    const all = get([...waiting, ...wide]).finally(() => {
      isOpen = false;
    });
    while (isOpen) await station.release();
    assert.equal(Math.max(...(await all)), 3);
    await assert.rejects(
      get(station.present.options({ concurrencyGroup: 'none' })()),
      (error: unknown) => error instanceof ConfigError && /control, wide/.test(error.message),
    );
    await kill(station);
    assert.throws(() => actor(Station, { methods: { waits: { concurrencyGroup: 'x' } } }), {
      path: 'methods.waits.concurrencyGroup',
    });
    assert.throws(() => actor(Station, { methods: { nope: {} } } as never), { path: 'methods.nope' });
  });

  test('one call more than maxPendingCalls is refused, and possible again later', async () => {
    const station = await actor(Station, { maxPendingCalls: 2, maxConcurrency: 4 }).create();
    const held = [station.waits(), station.waits()];
    assert.throws(() => station.present(), PendingCallsLimitError);
    const other = await getActor<Station>('unnamed').catch(() => null);
    assert.equal(other, null);
    await kill(station);
    await Promise.allSettled(held);
    assert.throws(() => actor(Station, { maxPendingCalls: 0 }), { path: 'maxPendingCalls' });
  });

  test('a stopped actor ends what it has, runs its exit hooks, and takes no more', async () => {
    const path = file();
    const station = await actor(Station).create(path);
    const last = station.slow(100);
    await stop(station);
    await assert.rejects(get(station.present()), ActorDiedError);
    assert.equal(await last, 'slow');
    assert.deepEqual(await noted(path, 3), ['slow done', 'onExit', 'disposed']);
  });

  test('one that does not end in time is killed', async () => {
    const station = await actor(Station).create(file());
    const held = station.waits();
    await stop(station, { graceMs: 50 });
    await assert.rejects(get(held), ActorDiedError);
    await assert.rejects(stop(station, { graceMs: 0 }), { path: 'graceMs' });
  });

  test('a killed actor runs no hooks', async () => {
    const path = file();
    const station = await actor(Station).create(path);
    assert.equal(await station.present(), 0);
    await kill(station);
    await assert.rejects(get(station.present()), ActorDiedError);
    assert.deepEqual(notes(path), []);
  });

  test('an actor may end itself, after its hooks, whatever restarts it has', async () => {
    const path = file();
    const station = await actor(Station, { maxRestarts: -1 }).create(path);
    await assert.rejects(get(station.leave()), ActorDiedError);
    assert.deepEqual(await noted(path, 2), ['onExit', 'disposed']);
    assert.throws(() => exitActor(), ConfigError);
  });

  test('a call in flight when its process ends and is restarted is unavailable, not dead', async () => {
    const station = await actor(Station, { maxRestarts: 1, maxConcurrency: 2 }).create();
    const held = station.waits();
    assert.equal(await station.present(), 1);
    await kill(station, { restart: true });
    await assert.rejects(get(held), ActorUnavailableError);
    assert.equal(await station.present(), 0);
    await kill(station);
    await assert.rejects(get(station.present()), ActorDiedError);
  });

  test('getOrCreate gives the actor that has the name, or makes it', async () => {
    const make = () => actor(Station, { name: 'only', getOrCreate: true, maxConcurrency: 2 }).create();
    const [first, second] = await Promise.all([make(), make()]);
    const held = first.waits();
    while ((await second.present()) === 0);
    await second.release();
    assert.equal(await held, 1);
    await kill(first);
    assert.throws(() => actor(Station, { getOrCreate: true }), { path: 'name' });
  });

  test('names are listed by namespace; a detached actor outlives who made it', async () => {
    const station = await actor(Station, { name: 'here' }).create();
    await task(leavesBehind)('left');
    assert.deepEqual(await listNamedActors(), [{ name: 'here', namespace: 'tests' }]);
    assert.deepEqual(await listNamedActors({ allNamespaces: true }), [
      { name: 'here', namespace: 'tests' },
      { name: 'left', namespace: 'shared' },
    ]);
    const left = await getActor<Station>('left', { namespace: 'shared' });
    await new Promise((resolve) => setTimeout(resolve, 1_500)); // the lease of its maker ends after a second
    assert.equal(await left.present(), 0);
    await kill(left);
    await kill(station);
    assert.deepEqual(await listNamedActors({ allNamespaces: true }), []);
  });

  test('an error of user code in a method is no end of the actor', async () => {
    const station = await actor(Station).create(file());
    await assert.rejects(get(station.busy(5)), TaskError);
    assert.equal(await station.present(), 0);
    await kill(station);
  });
};

describe('actors', actors(false));
describe('actors, in local mode', actors(true));
