// npm packages of workers, from archives on this machine: no registry is asked.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Cluster, get, init, RuntimeEnvSetupError, task } from '#src/client/index.js';
import { greeting } from './support/npm-code.js';

describe('npm environments', () => {
  const folder = mkdtempSync(join(tmpdir(), 'rl-npm-'));
  const cache = join(folder, 'cache', 'npm');
  let cluster: Cluster;

  /** Packs rl-greeter, which says `words` through a package of its own; returns the archive. */
  function pack(words: string, version: string): string {
    const write = (name: string, json: object, code: string): string => {
      const path = join(folder, `${name}-${version}`);
      mkdirSync(path);
      writeFileSync(
        join(path, 'package.json'),
        JSON.stringify({ name, version, type: 'module', main: 'index.js', ...json }),
      );
      writeFileSync(join(path, 'index.js'), code);
      execFileSync('npm', ['pack', '--silent'], { cwd: path });
      return join(path, `${name}-${version}.tgz`);
    };
    const inner = write('rl-words', {}, `export const words = ${JSON.stringify(words)};`);
    const dependencies = { 'rl-words': `file:${inner}` };
    return write(
      'rl-greeter',
      { dependencies },
      "import { words } from 'rl-words';\nexport const greet = () => words;",
    );
  }

  before(async () => {
    process.env.RAYLITE_CACHE_DIR = join(folder, 'cache');
    process.env.RAYLITE_NPM_CACHE_BYTES = '1';
    cluster = await init({ numCpus: 2, objectStoreMemory: 64 * 1024 * 1024, logToDriver: false });
  });
  after(async () => {
    await cluster?.close();
    delete process.env.RAYLITE_CACHE_DIR;
    delete process.env.RAYLITE_NPM_CACHE_BYTES;
    rmSync(folder, { recursive: true });
  });

  test('are installed once for all who ask for the same, kept apart from others, and go when they are old', async () => {
    const hello = { npm: [`rl-greeter@file:${pack('hello', '1.0.0')}`] };
    const ahoy = { npm: [`rl-greeter@file:${pack('ahoy', '2.0.0')}`] };
    const two = [1, 2].map(() => task(greeting, { runtimeEnv: hello })());
    assert.deepEqual(await get(two), ['hello', 'hello']);
    const [first, ...none] = readdirSync(cache);
    assert.ok(first && none.length === 0, 'one installation, and nothing that was begun beside it');
    const longAgo = new Date(Date.now() - 3_600_000);
    utimesSync(join(cache, first), longAgo, longAgo);
    assert.equal(await task(greeting, { runtimeEnv: ahoy })(), 'ahoy');
    assert.equal(readdirSync(cache).length, 1, 'the cache may hold one byte: the older went');
    assert.notEqual(readdirSync(cache)[0], first);
  });

  test('that cannot be installed fail with what npm said', async () => {
    const options = { runtimeEnv: { npm: ['rl-greeter@file:/nowhere/at-all.tgz'] } };
    await assert.rejects(get(task(greeting, options)()), (error: unknown) => {
      assert.ok(error instanceof RuntimeEnvSetupError, String(error));
      assert.match(error.message, /npm install ended with \d+:.*\/nowhere\/at-all\.tgz/s);
      return true;
    });
    assert.ok(readdirSync(cache).every((name) => !name.startsWith('new-')));
  });

  test('that make no sense are named', () => {
    assert.throws(() => task(greeting, { runtimeEnv: { npm: ['./here'] } }), { path: 'runtimeEnv.npm[0]' });
    assert.throws(() => task(greeting, { runtimeEnv: { npm: 'left-pad' } } as never), { path: 'runtimeEnv.npm' });
    assert.throws(() => task(greeting, { runtimeEnv: { npm: { packageJson: '/nowhere' } } }), {
      path: 'runtimeEnv.npm.packageJson',
    });
  });
});
