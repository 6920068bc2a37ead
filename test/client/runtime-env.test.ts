// What workers find: environment variables and set-up functions of the job, a task and an actor.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ActorDiedError, actor, type Cluster, get, init, kill, RuntimeEnvSetupError, task } from '#src/client/index.js';
import { cannotSetUp, countsSetUps, Looker, looks, visibleGpus } from './support/env-code.js';

describe('runtime environments', () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await init({
      numCpus: 2,
      numGpus: 2,
      logToDriver: false,
      runtimeEnv: { envVars: { BASE: 'job', MODE: 'slow' } },
    });
  });
  after(async () => {
    await cluster.close();
  });

  test('a task or actor adds to the environment of the job; set-up runs once a worker, before all else', async () => {
    assert.deepEqual(await task(looks)(), { mode: 'slow', base: 'job', setUps: 0, with: undefined });
    const runtimeEnv = { envVars: { MODE: 'fast' }, setup: countsSetUps };
    const expected = { mode: 'fast', base: 'job', setUps: 1, with: 'fast' };
    const fast = task(looks, { runtimeEnv });
    assert.deepEqual(await fast(), expected);
    assert.deepEqual(await fast(), expected);
    const looker = await actor(Looker, { runtimeEnv }).create();
    assert.deepEqual(await looker.found(), expected);
    assert.deepEqual(await task(looks)(), { mode: 'slow', base: 'job', setUps: 0, with: undefined });
  });

  test('GPUs are given as devices that the worker sees, unless its environment says otherwise', async () => {
    const whole = task(visibleGpus, { gpus: 1 });
    assert.deepEqual(
      (await get([whole(), whole()])).every((seen) => seen === '0' || seen === '1'),
      true,
    );
    assert.equal(await task(visibleGpus, { gpus: 2 })(), '0,1');
    const envVars = { CUDA_VISIBLE_DEVICES: '7' };
    assert.equal(await task(visibleGpus, { gpus: 1, runtimeEnv: { envVars } })(), '7');
  });

  test('0.6 of a GPU three times on two: each has a device of its own, the third when one of them is free', async () => {
    const share = { gpus: 0.6, cpus: 0 };
    const holders = await Promise.all([1, 2].map(() => actor(Looker, share).create()));
    const seen = await Promise.all(holders.map((holder) => holder.gpus()));
    assert.deepEqual(seen.toSorted(), ['0', '1']);
    const third = actor(Looker, share).create();
    await kill(holders[seen.indexOf('1')]!);
    assert.equal(await (await third).gpus(), '1');
  });

  test('what set-up throws is the cause of a typed error, for tasks and actors', async () => {
    const options = { runtimeEnv: { setup: cannotSetUp } };
    const isSetUpError = (error: unknown): boolean =>
      error instanceof RuntimeEnvSetupError &&
      error.cause instanceof RangeError &&
      /no such device/.test(error.message);
    await assert.rejects(get(task(looks, options)()), isSetUpError);
    await assert.rejects(
      actor(Looker, options).create(),
      (error: unknown) => error instanceof ActorDiedError && isSetUpError(error.cause),
    );
  });

  test('an environment that makes no sense is named', async () => {
    assert.throws(() => task(looks, { runtimeEnv: { envVars: { N: 1 } } } as never), { path: 'runtimeEnv.envVars.N' });
    assert.throws(() => task(looks, { runtimeEnv: { pip: [] } } as never), { path: 'runtimeEnv.pip' });
    assert.throws(() => actor(Looker, { runtimeEnv: { setup: 'warm' } } as never), { path: 'runtimeEnv.setup' });
    await assert.rejects(init({ runtimeEnv: { conda: 1 } } as never), { path: 'runtimeEnv.conda' });
  });
});
