// Limits of workers as cgroups: what is written for either version, on a tree of plain files; and the kernel's own, where there is one.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { findCgroups, WorkerCgroups } from '#src/node/worker-cgroups.js';

const startOf = (pid: number): string => {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]!;
};

const GIB = 1024 ** 3;

describe('cgroups', () => {
  let root = '';
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'rl-cgroup-'));
  });
  afterEach(() => rmSync(root, { recursive: true }));
  const own = (text: string): string => {
    writeFileSync(join(root, 'own'), text);
    return join(root, 'own');
  };
  const read = (...path: string[]): string => readFileSync(join(root, ...path), 'utf8');

  test('of version 2: memory.max, cpu.weight, and all of a worker ends together', () => {
    mkdirSync(join(root, 'box'));
    writeFileSync(join(root, 'cgroup.controllers'), 'cpu memory');
    writeFileSync(join(root, 'box', 'cgroup.controllers'), 'cpu memory pids\n');
    const cgroups = WorkerCgroups.open('node', { root, own: own('0::/box\n') });
    assert.equal(cgroups.kind.version, 2);
    assert.equal(read('box', 'cgroup.subtree_control'), '+memory +cpu');
    assert.equal(cgroups.limit('w1', 4711, { memoryBytes: GIB, cpus: 2 }), true);
    assert.equal(read('box', 'node', 'w1', 'memory.max'), String(GIB));
    assert.equal(read('box', 'node', 'w1', 'memory.oom.group'), '1');
    assert.equal(read('box', 'node', 'w1', 'cpu.weight'), '200');
    assert.equal(read('box', 'node', 'w1', 'cgroup.procs'), '4711');
    assert.equal(cgroups.memoryEnd('w1'), null);
    writeFileSync(join(root, 'box', 'node', 'w1', 'memory.events'), 'oom 1\noom_kill 2\n');
    assert.deepEqual(cgroups.memoryEnd('w1'), { limitBytes: GIB });
  });

  test('of version 1: each controller has its tree; less than Node itself needs is no limit', () => {
    for (const name of ['memory', 'cpu']) mkdirSync(join(root, name));
    const cgroups = WorkerCgroups.open('node', { root, own: own('4:memory:/\n1:cpu,cpuacct:/\n0::/\n') });
    assert.equal(cgroups.kind.version, 1);
    assert.deepEqual(cgroups.folders, [join(root, 'memory', 'node'), join(root, 'cpu', 'node')]);
    cgroups.limit('w1', 4711, { memoryBytes: 1, cpus: 0.5 });
    assert.equal(read('memory', 'node', 'w1', 'memory.limit_in_bytes'), String(128 * 1024 * 1024));
    assert.equal(read('cpu', 'node', 'w1', 'cpu.shares'), '512');
    cgroups.limit('w2', 4712, { memoryBytes: 0, cpus: 1 });
    assert.equal(existsSync(join(root, 'memory', 'node', 'w2', 'memory.limit_in_bytes')), false);
  });

  test('of agents that are dead are removed by the next one, those of others stay', () => {
    const space = /\d+/.exec(readlinkSync('/proc/self/ns/pid'))![0];
    const dead = `raylite-${space}-1-99999999999-abcdef`;
    const alive = `raylite-${space}-${process.pid}-${startOf(process.pid)}-abcdef`;
    for (const name of ['memory', 'cpu', `memory/${dead}`, `cpu/${dead}`, `memory/${alive}`, 'memory/others'])
      mkdirSync(join(root, name));
    // Of a namespace that is gone: only who sees all namespaces can know.
    const elsewhere = 'raylite-1-1-1-abcdef';
    mkdirSync(join(root, 'memory', elsewhere));
    const seesAll = space === '4026531836';
    mkdirSync(join(root, 'memory', dead, 'w1'));
    WorkerCgroups.open('node', { root, own: own('4:memory:/\n1:cpu:/\n') });
    assert.deepEqual(
      readdirSync(join(root, 'memory')).sort(),
      ['node', 'others', alive, ...(seesAll ? [] : [elsewhere])].sort(),
    );
    assert.deepEqual(readdirSync(join(root, 'cpu')), ['node']);
  });

  test('that cannot be had are said so, and nobody is held to anything', () => {
    const places = { root: join(root, 'none'), own: own('4:memory:/\n1:cpu:/\n') };
    assert.deepEqual(findCgroups(places), { version: null, detail: 'cgroups cannot be written here (ENOENT)' });
    const cgroups = WorkerCgroups.open('node', places);
    assert.equal(cgroups.limit('w1', 1, { memoryBytes: GIB, cpus: 1 }), false);
    assert.deepEqual(cgroups.folders, []);
  });

  const here = findCgroups();
  test('of the kernel end what takes more than its limit, and go with it', {
    skip: here.version === null && here.detail,
  }, async () => {
    const cgroups = WorkerCgroups.open(`raylite-test-${process.pid}`);
    const hungry =
      'process.stdin.once("data", () => { const kept = []; for (;;) kept.push(Buffer.alloc(2 ** 24, 1)); })';
    const child = spawn(process.execPath, ['-e', hungry], { stdio: ['pipe', 'ignore', 'ignore'] });
    const ended = once(child, 'exit');
    assert.equal(cgroups.limit('hungry', child.pid!, { memoryBytes: 256 * 1024 * 1024, cpus: 1 }), true);
    child.stdin.write('eat\n');
    assert.deepEqual(await ended, [null, 'SIGKILL']);
    assert.deepEqual(cgroups.memoryEnd('hungry'), { limitBytes: 256 * 1024 * 1024 });
    cgroups.remove('hungry');
    cgroups.close();
    for (const folder of cgroups.folders) assert.equal(existsSync(folder), false);
  });
});
