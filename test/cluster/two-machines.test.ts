// The whole system on two machines: a head and node A, node B on the other end of a cable. Processes are killed as users
// would lose them; what is looked at is what users would see.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { CLI } from '../support/cli.js';
import { Listener } from '../support/listener.js';
import { Machine, type RunOptions, type RunResult } from '../support/machines.js';
import { withoutNetworkNamespaces } from '../support/services.js';
import { MARKER } from './jobs/carried.js';

const JOBS = fileURLToPath(new URL('./jobs', import.meta.url));
const TOKEN = 'a-token-for-two-machines';
const HEAD = '10.77.0.1';
// More CPUs than all ranks, tasks and endings together: nothing has to wait for room or to move over.
const SMALL = ['--num-cpus', '8', '--object-store-memory', '256M'];

const raylite = (...args: readonly string[]): readonly string[] => [process.execPath, CLI, ...args];

interface Status {
  readonly nodes: readonly {
    readonly nodeId: string;
    readonly hostname: string;
    readonly host: string;
    readonly state: string;
    readonly isHead: boolean;
    readonly total: Readonly<Record<string, number>>;
  }[];
  readonly jobs: readonly { readonly job_id: string; readonly status: string }[];
}

/** Two machines with nothing running on them; checks at the end that nothing is. */
class Lab implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'rl2-'));
  a!: Machine;
  b!: Machine;

  static async open(): Promise<Lab> {
    const lab = new Lab();
    try {
      lab.a = await Machine.boot('machine-a', HEAD, join(lab.folder, 'a'));
      lab.b = await Machine.boot('machine-b', '10.77.0.2', join(lab.folder, 'b'));
      await Machine.connect(lab.a, lab.b);
      return lab;
    } catch (error) {
      await lab[Symbol.asyncDispose]();
      throw error;
    }
  }

  async startBoth(settings: Readonly<Record<string, string>> = {}): Promise<void> {
    const env = { RAYLITE_TOKEN: TOKEN, ...settings };
    await ok(this.a, ['start', '--head', '--host', HEAD, ...SMALL], { env });
    await ok(this.b, ['start', '--address', `${HEAD}:6379`, ...SMALL], { env });
  }

  async status(on: Machine = this.a): Promise<Status> {
    return JSON.parse(await ok(on, ['status', '--json'])) as Status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.a?.[Symbol.asyncDispose]();
    await this.b?.[Symbol.asyncDispose]();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Runs a verb that must succeed; its standard output. */
async function ok(on: Machine, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await on.run(raylite(...args), options);
  assert.equal(code, 0, `raylite ${args.join(' ')} on ${on.name}:\n${stdout}${stderr}${logsOf(on)}`);
  return stdout;
}

/** The ends of the daemons' logs, for the message of a failed test. */
function logsOf(machine: Machine): string {
  const files = readdirSync(machine.folder, { recursive: true, encoding: 'utf8' }).filter((path) =>
    path.endsWith('.log'),
  );
  return `${machine.name} has logs: ${files.join(', ')}`;
}

/** A verb that goes on while the test looks at the lines of JSON that it prints. */
class Following {
  readonly process: ChildProcess;
  readonly events: { readonly kind: string; readonly [key: string]: unknown }[] = [];
  readonly #ended: Promise<[number | null]>;
  #output = '';
  #look = (): void => {};

  constructor(on: Machine, args: readonly string[]) {
    this.process = on.start(raylite(...args));
    this.#ended = once(this.process, 'close') as Promise<[number | null]>;
    for (const stream of [this.process.stdout!, this.process.stderr!]) {
      createInterface({ input: stream }).on('line', (line) => {
        this.#output += `${line}\n`;
        if (line.startsWith('{')) this.events.push(JSON.parse(line));
        this.#look();
      });
    }
  }

  /** The first event of the kind; fails when the verb ends without one. */
  async until(kind: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#look = () => {
        if (this.events.some((event) => event.kind === kind)) resolve();
      };
      this.#look();
      this.#ended.then(([code]) => reject(new Error(`ended with ${code} and no "${kind}":\n${this.#output}`)), reject);
    });
  }

  async end(): Promise<{ readonly code: number | null; readonly output: string }> {
    const [code] = await this.#ended;
    return { code, output: this.#output };
  }
}

const of = (kind: string, following: Following) => following.events.filter((event) => event.kind === kind);

/** After `raylite stop`: no process, no shared memory, no socket of raylite's. */
function assertNothingLeft(machine: Machine): void {
  assert.deepEqual(machine.processes(), [], `processes on ${machine.name}`);
  assert.deepEqual(machine.sharedMemory(), [], `shared memory on ${machine.name}`);
  assert.deepEqual(machine.unixSockets(), [], `sockets on ${machine.name}`);
}

describe('two machines', { skip: withoutNetworkNamespaces() }, () => {
  test('a run over both ends with the losses of an undisturbed run, whatever is killed', async (context) => {
    await using lab = await Lab.open();
    const { a, b } = lab;
    await lab.startBoth();
    for (const seenFrom of [a, b]) {
      const { nodes } = await lab.status(seenFrom);
      const facts = nodes.map(({ hostname, state, isHead, total }) => [hostname, state, isHead, total.CPU]);
      assert.deepEqual(facts.sort(), [
        ['machine-a', 'ALIVE', true, 8],
        ['machine-b', 'ALIVE', false, 8],
      ]);
    }

    const storage = join(lab.folder, 'runs');
    const submit = (...args: readonly string[]) =>
      new Following(a, ['job', 'submit', '--working-dir', JOBS, '--', 'node', 'finetune.js', ...args]);
    const undisturbed = submit('undisturbed', storage, '2');
    const calm = await undisturbed.end();
    assert.equal(calm.code, 0, calm.output);
    assert.deepEqual(of('started', undisturbed), [{ kind: 'started', group: 'tcp', fromStep: 0 }]);
    const losses = of('done', undisturbed)[0]?.losses;
    assert.ok(Array.isArray(losses) && losses.length === 16, calm.output);

    await context.test('the kill of one rank costs the steps since the last checkpoint', async () => {
      const gate = join(lab.folder, 'rank-is-dead');
      const disturbed = submit('rank-killed', storage, '2', gate);
      await disturbed.until('holding');
      assert.equal(await b.kill('raylite: TrainRank'), 1, 'machine B has one of the two ranks');
      writeFileSync(gate, '');
      const { code, output } = await disturbed.end();
      assert.equal(code, 0, output);
      assert.deepEqual(of('started', disturbed), [
        { kind: 'started', group: 'tcp', fromStep: 0 },
        { kind: 'started', group: 'tcp', fromStep: 5 },
      ]);
      assert.deepEqual(of('done', disturbed), [{ kind: 'done', losses, failures: 1 }]);
    });

    await context.test(
      'ranks share each machine; when one of them stands still the others name it and the run goes on',
      async () => {
        const gate = join(lab.folder, 'rank-is-stopped');
        const disturbed = submit('rank-stopped', storage, '4', gate);
        await disturbed.until('holding');
        assert.equal(b.freeze('raylite: TrainRank'), 2, 'machine B has two of the four ranks');
        writeFileSync(gate, '');
        const { code, output } = await disturbed.end();
        assert.equal(code, 0, output);
        assert.deepEqual(of('started', disturbed), [
          { kind: 'started', group: 'hierarchical', fromStep: 0 },
          { kind: 'started', group: 'hierarchical', fromStep: 5 },
        ]);
        assert.match(
          String(of('failed', disturbed)[0]?.error),
          /rank \d stands still: its process has given no sign of life/,
        );
        const [done] = of('done', disturbed);
        assert.equal(done?.failures, 1);
        for (const [step, loss] of (done.losses as number[]).entries())
          assert.ok(Math.abs(loss - losses[step]) < 1e-4, `step ${step + 1}: ${loss}, with two ranks ${losses[step]}`);
      },
    );

    await context.test('the kill of the head costs no step once it is started again', async () => {
      const gate = join(lab.folder, 'head-is-back');
      const disturbed = submit('head-killed', storage, '2', gate);
      await disturbed.until('holding');
      assert.equal(await a.kill('head/main.js'), 1);
      await ok(a, ['start', '--head']);
      writeFileSync(gate, '');
      const { code, output } = await disturbed.end();
      assert.equal(code, 0, output);
      assert.deepEqual(of('started', disturbed), [{ kind: 'started', group: 'tcp', fromStep: 0 }]);
      assert.deepEqual(of('done', disturbed), [{ kind: 'done', losses, failures: 0 }]);
      await Promise.all([a, b].map((machine) => machine.without('raylite: TrainRank'))); // else: the file's time limit
    });

    await context.test('stop ends a run under way and leaves nothing', async () => {
      const unfinished = submit('stopped', storage, '2', join(lab.folder, 'never'));
      await unfinished.until('holding');
      assert.ok((await a.kill('job submit')) > 0);
      await unfinished.end();
      await ok(a, ['stop']);
      await ok(b, ['stop']);
      for (const machine of [a, b]) assertNothingLeft(machine);
    });
  });

  test('a head that is killed and started again knows its jobs, nodes and named actors', async () => {
    await using lab = await Lab.open();
    const { a, b } = lab;
    await lab.startBoth();
    const count = (...args: readonly string[]) =>
      ok(b, ['job', 'submit', '--working-dir', JOBS, '--', 'node', 'count.js', ...args]);
    assert.match(await count('first'), /^count 1$/m);
    assert.match(await count(), /^count 2$/m);
    const before = await lab.status();

    assert.equal(await a.kill('head/main.js'), 1);
    const without = await a.run(raylite('status'));
    assert.equal(without.code, 1);
    assert.match(without.stderr, /nothing answers there .*raylite start --head/);

    await ok(a, ['start', '--head']);
    assert.match(await count(), /^count 3$/m, 'the actor kept its state');
    const after = await lab.status();
    const ids = ({ nodes }: Status) => nodes.map(({ nodeId, state }) => `${nodeId} ${state}`).sort();
    assert.deepEqual(ids(after), ids(before));
    const jobs = after.jobs.map(({ job_id }) => job_id);
    for (const { job_id, status } of before.jobs) {
      assert.ok(jobs.includes(job_id), `job ${job_id} is still known`);
      assert.equal(status, 'SUCCEEDED');
    }
    await ok(b, ['stop']);
    await ok(a, ['stop']);
    for (const machine of [a, b]) assertNothingLeft(machine);
  });

  for (const mode of ['TLS', 'plain'] as const)
    test(`who listens on the cable reads ${mode === 'TLS' ? 'nothing' : 'everything where RAYLITE_TLS=0 asks for it'}`, async () => {
      await using lab = await Lab.open();
      const { a, b } = lab;
      await using listener = await Listener.on(b);
      await lab.startBoth(mode === 'TLS' ? {} : { RAYLITE_TLS: '0' });
      const submit = ['job', 'submit', '--working-dir', JOBS, '--', 'node', 'carry.js'];
      assert.match(await ok(a, submit), /^carried 6600000 there, 6600000 back$/m);
      await ok(b, ['stop']);
      await ok(a, ['stop']);
      const heard = listener.heard();
      assert.ok(heard.length > 2 * 6_600_000, `${heard.length} bytes went over the cable`);
      for (const secret of [MARKER, TOKEN])
        assert.equal(heard.includes(secret), mode === 'plain', `"${secret}" on the cable`);
    });

  test('mistakes are told clearly, with an exit code, and leave nothing running', async () => {
    await using lab = await Lab.open();
    const { a, b } = lab;
    const join = (env: Readonly<Record<string, string>>, address = `${HEAD}:6379`): Promise<RunResult> =>
      b.run(raylite('start', '--address', address, ...SMALL), { env });

    const dead = await join({ RAYLITE_TOKEN: TOKEN });
    assert.equal(dead.code, 1);
    assert.match(dead.stderr, /10\.77\.0\.1:6379: nothing answers there \(ECONNREFUSED\)\. Is the head running there/);

    await ok(a, ['start', '--head', '--host', HEAD, ...SMALL], { env: { RAYLITE_TOKEN: TOKEN } });
    const none = await join({});
    assert.equal(none.code, 2);
    assert.match(none.stderr, /--token-file: expected the token of the cluster, got nothing/);
    const wrong = await join({ RAYLITE_TOKEN: 'not-the-token-of-this-cluster' });
    assert.equal(wrong.code, 1);
    assert.match(wrong.stderr, /the cluster token is wrong\. Give the token of this cluster/);
    assertNothingLeft(b);

    const twice = await a.run(raylite('start', '--head', '--host', HEAD, ...SMALL));
    assert.equal(twice.code, 2);
    assert.match(twice.stderr, /no running cluster of this user/);
    const busy = await a.run(raylite('start', '--head', '--host', HEAD, '--dashboard-port', '0', ...SMALL), {
      env: { RAYLITE_TMPDIR: `${a.folder}-other` },
    });
    assert.equal(busy.code, 2);
    assert.match(busy.stderr, /expected a free port, got 6379\. Something else listens on 10\.77\.0\.1:6379/);
    const running = a.processes().filter(({ command }) => command.includes('/main.js --boot'));
    assert.equal(running.filter(({ command }) => command.includes('/head/')).length, 1, 'the first head alone');

    const asked = await a.run(raylite('job', 'submit', '--entrypoint-num-cpus', '64', '--', 'node', '-e', '1'));
    assert.notEqual(asked.code, 0);
    assert.match(asked.stderr, /64 CPU/);
    const failing = await a.run(raylite('job', 'submit', '--', 'node', '-e', 'console.log("out"); process.exit(5)'));
    assert.equal(failing.code, 5);
    assert.match(failing.stdout, /^out$/m);
    await ok(a, ['stop']);
    await ok(a, ['stop']);
    assertNothingLeft(a);
    assert.equal(existsSync(`${a.folder}/current.json`), false);
  });
});
