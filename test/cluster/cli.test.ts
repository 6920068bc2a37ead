// `raylite` as a user runs it, on real processes: start, jobs, a killed head, joining, mistakes, stop.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { CurrentCluster } from '#src/common/index.js';
import { CLI } from '../support/cli.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const SMALL = ['--num-cpus', '2', '--object-store-memory', '64M'];
const START = ['start', '--head', '--port', '0', '--dashboard-port', '0', ...SMALL];

interface Result {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** One user's raylite: its own root, stopped at the end whatever happened. */
class Shell implements AsyncDisposable {
  readonly root: string;
  constructor(root: string) {
    this.root = root;
  }
  /** `onOut` sees the output as it comes, and may send the command a signal. */
  run(
    args: readonly string[],
    env: NodeJS.ProcessEnv = {},
    onOut: (text: string, signal: (name: NodeJS.Signals) => void) => void = () => {},
  ): Promise<Result> {
    return new Promise((resolve, reject) => {
      const child = spawn(process.execPath, [CLI, ...args], {
        env: { ...process.env, RAYLITE_TMPDIR: this.root, RAYLITE_TOKEN: '', RAYLITE_ADDRESS: '', ...env },
      });
      let out = '';
      let err = '';
      child.stdout.on('data', (chunk: Buffer) => {
        out += chunk;
        onOut(out, (name) => child.kill(name));
      });
      child.stderr.on('data', (chunk: Buffer) => {
        err += chunk;
      });
      child.on('error', reject);
      child.on('close', (code) => resolve({ code, out, err }));
    });
  }
  async ok(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
    const result = await this.run(args, env);
    assert.equal(result.code, 0, `raylite ${args.join(' ')}: ${result.err}`);
    return result.out;
  }
  get current(): CurrentCluster {
    return JSON.parse(readFileSync(join(this.root, 'current.json'), 'utf8')) as CurrentCluster;
  }
  /** Processes whose command line names this root. */
  processes(): string[] {
    return readdirSync('/proc').filter((name) => {
      if (!/^\d+$/.test(name)) return false;
      try {
        return readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(`${this.root}/session-`);
      } catch {
        return false;
      }
    });
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.run(['stop']);
  }
}

test('a job is submitted with its folder, streams its output and passes on its exit code', async () => {
  using dir = temporaryFolder();
  using work = temporaryFolder();
  await using shell = new Shell(dir.path);
  writeFileSync(join(work.path, 'main.mjs'), 'console.log("hello", process.env.CANARY.length); process.exit(7);');
  const started = await shell.ok(START);
  const token = readFileSync(shell.current.tokenFile, 'utf8').trim();
  assert.match(started, new RegExp(`RAYLITE_TOKEN=${token} raylite start --address 127.0.0.1:`));
  const runtimeEnv = JSON.stringify({ env_vars: { CANARY: 'canary-71f3' } });
  const job = await shell.run([
    'job',
    'submit',
    '--working-dir',
    work.path,
    '--submission-id',
    'one',
    '--runtime-env-json',
    runtimeEnv,
    '--',
    'node',
    'main.mjs',
  ]);
  assert.equal(job.code, 7);
  assert.equal(job.out, 'hello 11\n');
  assert.match(job.err, /Job one FAILED: the entrypoint exited with code 7/);
  assert.equal(await shell.ok(['job', 'logs', 'one']), 'hello 11\n');
  const listing = (await shell.ok(['job', 'list', '--json'])) + (await shell.ok(['status', '--json']));
  assert.ok(!listing.includes('canary-71f3') && !listing.includes(token), 'secrets stay out of listings');
  const logs = readdirSync(join(shell.current.sessionDir, 'logs'));
  for (const name of logs) {
    const text = readFileSync(join(shell.current.sessionDir, 'logs', name), 'utf8');
    assert.ok(!text.includes(token) && !text.includes('canary-71f3'), `${name} holds no secret`);
  }
  const infeasible = await shell.run(['job', 'submit', '--entrypoint-num-gpus', '3', '--', 'true']);
  assert.equal(infeasible.code, 1);
  assert.match(infeasible.err, /asks for 3 GPU, which no node can ever hold. The cluster has node \w+ \(.*\): 2 CPU/);
  assert.equal((await shell.run(['status'], { RAYLITE_TOKEN: 'wrong-wrong-wrong-wrong' })).code, 1);
  await shell.ok(['stop']);
  assert.deepEqual(shell.processes(), []);
});

test('what ran and what runs is counted, listed and drawn', async () => {
  using dir = temporaryFolder();
  using work = temporaryFolder();
  await using shell = new Shell(dir.path);
  writeFileSync(
    join(work.path, 'work.mjs'),
    'export const half = (x) => { if (x % 2) throw new Error("odd"); return x / 2; };\nexport class Shelf { books() { return 3; } }\n',
  );
  writeFileSync(
    join(work.path, 'main.mjs'),
    `import { actor, get, init, task } from 'raylite';
import { half, Shelf } from './work.mjs';
await init({ namespace: 'n' });
const shelf = await actor(Shelf, { name: 'shelf', lifetime: 'detached', cpus: 0 }).create();
console.log(await shelf.books(), await get([2, 4, 6].map((x) => task(half)(x))), await get(task(half)(7)).catch((error) => error.message));
`,
  );
  await shell.ok(START);
  assert.match(
    await shell.ok(['job', 'submit', '--working-dir', work.path, '--', 'node', 'main.mjs']),
    /3 \[ 1, 2, 3 \]/,
  );
  const [tasks] = JSON.parse(await shell.ok(['summary', 'tasks', '--json']));
  assert.deepEqual([tasks.task, tasks.finished, tasks.failed, tasks.running], ['half', 3, 1, 0]);
  assert.match(await shell.ok(['summary', 'tasks']), /^TASK +RUNNING +FINISHED +FAILED +MEAN +LONGEST$/m);
  assert.match(await shell.ok(['list', 'tasks']), /^half +FAILED /m);
  const [actors] = JSON.parse(await shell.ok(['summary', 'actors', '--json']));
  assert.deepEqual([actors.actor, actors.alive], ['Shelf', 1]);
  const trace = join(work.path, 'trace.json');
  assert.match(await shell.ok(['timeline', '--output', trace]), /5 calls written to .*ui\.perfetto\.dev/);
  const { traceEvents } = JSON.parse(readFileSync(trace, 'utf8')) as { traceEvents: { ph: string; name: string }[] };
  const spans = traceEvents.filter(({ ph }) => ph === 'X').map(({ name }) => name);
  assert.deepEqual(spans.sort(), ['Shelf.books', 'half', 'half', 'half', 'half']);
  // The agent tells of its workers with each beat.
  let top: { nodes: unknown[]; workers: { name: string; memoryBytes: number }[] };
  do top = JSON.parse(await shell.ok(['top', '--json']));
  while (!top.workers.some(({ name, memoryBytes }) => name === 'Shelf' && memoryBytes > 0));
  assert.equal(top.nodes.length, 1);
  assert.match(await shell.ok(['top', '--once']), /^\w+ +\S+ +\d+ +Shelf +\d+ % /m);
  assert.match(await shell.ok(['list', 'workers']), / Shelf /);
});

test('Ctrl-C ends a cluster in the foreground, and a quickstart wherever it is: exit code 130, nothing left', async () => {
  using dir = temporaryFolder();
  using work = temporaryFolder();
  await using shell = new Shell(dir.path);
  const block = await shell.run([...START, '--block'], {}, (out, signal) => {
    if (out.includes('raylite stop')) signal('SIGINT');
  });
  assert.equal(block.code, 130, block.err);
  assert.deepEqual(shell.processes(), []);
  const quickstart = ['-c', `exec "$0" "$@" 2>&1`, process.execPath, CLI, 'quickstart', '--out', work.path];
  const end = await new Promise<number | NodeJS.Signals | null>((resolve, reject) => {
    const child = spawn('/bin/sh', quickstart, {
      env: { ...process.env, RAYLITE_TMPDIR: shell.root, RAYLITE_TOKEN: '' },
    });
    child.stdout.on('data', (text: Buffer) => {
      if (text.includes('Evaluating')) child.kill('SIGINT');
    });
    child.on('error', reject);
    child.on('close', (code, signal) => resolve(code ?? signal));
  });
  assert.equal(end, 130);
  assert.deepEqual(shell.processes(), []);
});

test('a head that is killed starts again on its port, and a running job goes on to its own end', async () => {
  using dir = temporaryFolder();
  using work = temporaryFolder();
  await using shell = new Shell(dir.path);
  await shell.ok(START);
  const before = shell.current;
  const gate = join(work.path, 'gate');
  const script = `echo first; while [ ! -e ${gate} ]; do sleep 0.05; done; echo last; exit 5`;
  const jobs: Promise<Result>[] = [];
  await new Promise<void>((isRunning) => {
    const submit = ['job', 'submit', '--submission-id', 'long', '--', script];
    jobs.push(
      shell.run(submit, {}, (out) => {
        if (out.includes('first')) isRunning();
      }),
    );
  });
  process.kill(before.pids[0]!, 'SIGKILL');
  const again = await shell.ok(['start', '--head', ...SMALL]);
  assert.match(again, /Restarted the head of your cluster/);
  assert.equal(shell.current.headAddress, before.headAddress);
  assert.equal(shell.current.nodeId, before.nodeId);
  writeFileSync(gate, '');

  const [ended] = await Promise.all(jobs);
  assert.ok(ended);
  assert.equal(ended.code, 5);
  assert.equal(ended.out, 'first\nlast\n');
  await shell.ok(['stop']);
  assert.deepEqual(shell.processes(), []);
});

test('a second node joins with the token and leaves; a wrong token or a taken port start nothing', async () => {
  using dir = temporaryFolder();
  using otherDir = temporaryFolder();
  await using shell = new Shell(dir.path);
  await using other = new Shell(otherDir.path);
  await shell.ok(START);
  const { headAddress, tokenFile } = shell.current;
  const wrong = await other.run(['start', '--address', headAddress, ...SMALL], {
    RAYLITE_TOKEN: 'wrong-wrong-wrong-wrong',
  });
  assert.equal(wrong.code, 1);
  assert.match(wrong.err, /the cluster token is wrong/);
  const port = headAddress.split(':')[1]!;
  const taken = await other.run(['start', '--head', '--port', port, '--dashboard-port', '0', ...SMALL]);
  assert.equal(taken.code, 2);
  assert.match(taken.err, /--port: expected a free port/);
  assert.deepEqual(other.processes(), []);
  assert.deepEqual(readdirSync(other.root), []);
  await other.ok(['start', '--address', headAddress, '--token-file', tokenFile, '--labels', 'zone=b', ...SMALL]);
  const nodes = JSON.parse(await shell.ok(['list', 'nodes', '--json'])) as {
    state: string;
    labels: { zone?: string };
  }[];
  assert.deepEqual(
    nodes.map((node) => [node.state, node.labels.zone]),
    [
      ['ALIVE', undefined],
      ['ALIVE', 'b'],
    ],
  );
  await other.ok(['stop']);
  assert.match(await shell.ok(['list', 'nodes']), /DEAD/);
  const twice = await shell.run(START);
  assert.match(twice.err, /no running cluster of this user/);
  await shell.ok(['stop']);
  assert.deepEqual([...shell.processes(), ...other.processes()], []);
});
