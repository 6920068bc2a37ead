// Two machines on one: each has a network, a process table, a host name and a /dev/shm of its own (Linux namespaces), and
// a cable between them (a veth pair). They share the file system, as machines with a common mount do.
//
// Each machine hangs on one process that reads its standard input. When that ends, for whatever reason, the kernel ends
// every process of the machine and takes its network away: nothing can be left behind.
import { type ChildProcess, type ChildProcessByStdio, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const RUN_MS_MAX = 60_000;
const POLL_MS = 5;

// The first process of a machine: adopts orphans, and bash reaps them.
const INIT = `
set -e
hostname "$1"
mount -t tmpfs -o size=4g tmpfs /dev/shm
ip link set lo up
echo ready
while read -r _; do :; done`;

export interface RunResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** How long `run` lets it. */
  readonly msMax?: number;
}

export interface MachineProcess {
  readonly pid: number; // as seen from outside
  readonly command: string;
}

type Init = ChildProcessByStdio<Writable, Readable, Readable>;

export class Machine implements AsyncDisposable {
  readonly name: string;
  readonly address: string;
  /** RAYLITE_TMPDIR of what runs here. */
  readonly folder: string;
  readonly #holder: Init;
  readonly #initPid: number;

  private constructor(name: string, address: string, folder: string, holder: Init, initPid: number) {
    this.name = name;
    this.address = address;
    this.folder = folder;
    this.#holder = holder;
    this.#initPid = initPid;
  }

  static async boot(name: string, address: string, folder: string): Promise<Machine> {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const kinds = ['--mount', '--uts', '--ipc', '--net', '--pid', '--fork', '--kill-child', '--mount-proc'];
    const holder = spawn('unshare', [...kinds, 'bash', '-c', INIT, 'init', name], { stdio: ['pipe', 'pipe', 'pipe'] });
    const told = await Promise.race([
      once(holder.stdout, 'data').then(() => null),
      once(holder, 'exit').then(() => String(holder.stderr.read() ?? 'no reason given')),
    ]);
    if (told !== null) throw new Error(`machine ${name} did not start: ${told}`);
    const initPid = Number(readFileSync(`/proc/${holder.pid}/task/${holder.pid}/children`, 'utf8'));
    return new Machine(name, address, folder, holder, initPid);
  }

  /** Plugs a cable between two machines that have none yet. */
  static async connect(a: Machine, b: Machine): Promise<void> {
    const peer = ['peer', 'name', 'eth0', 'netns', String(b.#initPid)];
    await a.#inNetwork(['ip', 'link', 'add', 'eth0', 'type', 'veth', ...peer]);
    for (const machine of [a, b]) {
      await machine.#inNetwork(['ip', 'address', 'add', `${machine.address}/24`, 'dev', 'eth0']);
      await machine.#inNetwork(['ip', 'link', 'set', 'eth0', 'up']);
    }
  }

  /** Plugs cables from each of `machines` into this one, which becomes their switch: all reach each other. */
  async connectAll(machines: readonly Machine[]): Promise<void> {
    await this.#inNetwork(['ip', 'link', 'add', 'switch', 'type', 'bridge']);
    await this.#inNetwork(['ip', 'link', 'set', 'switch', 'up']);
    for (const [index, machine] of machines.entries()) {
      const peer = ['peer', 'name', 'eth0', 'netns', String(machine.#initPid)];
      await this.#inNetwork(['ip', 'link', 'add', `port${index}`, 'type', 'veth', ...peer]);
      await this.#inNetwork(['ip', 'link', 'set', `port${index}`, 'master', 'switch', 'up']);
      await machine.#inNetwork(['ip', 'address', 'add', `${machine.address}/24`, 'dev', 'eth0']);
      await machine.#inNetwork(['ip', 'link', 'set', 'eth0', 'up']);
    }
  }

  /** Runs a program here to its end. */
  async run(command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const child = this.start(command, options);
    const output = { stdout: '', stderr: '' };
    child.stdout?.on('data', (chunk) => {
      output.stdout += chunk;
    });
    child.stderr?.on('data', (chunk) => {
      output.stderr += chunk;
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), options.msMax ?? RUN_MS_MAX);
    const [code] = (await once(child, 'close')) as [number | null];
    clearTimeout(timer);
    return { code, ...output };
  }

  /** Starts a program here. It ends with the machine at the latest. */
  start(command: readonly string[], { env = {}, cwd = this.folder }: RunOptions = {}): ChildProcess {
    const spaces = ['--target', String(this.#initPid), '--mount', '--uts', '--ipc', '--net', '--pid'];
    const { RAYLITE_TOKEN: _token, RAYLITE_ADDRESS: _address, NODE_TEST_CONTEXT: _test, ...inherited } = process.env;
    return spawn('nsenter', [...spaces, 'env', '-C', cwd, ...command], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...inherited, TMPDIR: this.folder, RAYLITE_TMPDIR: this.folder, NO_COLOR: '1', ...env },
    });
  }

  /** What runs here, without the machine's first process. */
  processes(): readonly MachineProcess[] {
    const space = readlinkSync(`/proc/${this.#initPid}/ns/pid`);
    const found: MachineProcess[] = [];
    for (const entry of readdirSync('/proc')) {
      const pid = Number(entry);
      if (!Number.isInteger(pid) || pid === this.#initPid) continue;
      try {
        if (readlinkSync(`/proc/${pid}/ns/pid`) !== space) continue;
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
        if (command !== '') found.push({ pid, command }); // a zombie has none
      } catch {
        // it ended while we looked
      }
    }
    return found;
  }

  /** Ends, by `kill -9`, what runs here and has `part` in its command line; resolves once it is gone. */
  async kill(part: string): Promise<number> {
    const victims = this.processes().filter(({ command }) => command.includes(part));
    for (const { pid } of victims) process.kill(pid, 'SIGKILL');
    while (this.processes().some(({ pid }) => victims.some((victim) => victim.pid === pid))) await sleep(POLL_MS);
    return victims.length;
  }

  /** Stops what has `part` in its command line, as if it hung; how many there were. */
  freeze(part: string): number {
    const victims = this.processes().filter(({ command }) => command.includes(part));
    for (const { pid } of victims) process.kill(pid, 'SIGSTOP');
    return victims.length;
  }

  /** Resolves once nothing that has `part` in its command line runs here. */
  async without(part: string): Promise<void> {
    while (this.processes().some(({ command }) => command.includes(part))) await sleep(POLL_MS);
  }

  /** Names in the machine's own /dev/shm. */
  sharedMemory(): readonly string[] {
    return readdirSync(join('/proc', String(this.#initPid), 'root/dev/shm'));
  }

  /** Paths of the Unix sockets that somebody here listens on or is connected to. */
  unixSockets(): readonly string[] {
    const table = readFileSync(join('/proc', String(this.#initPid), 'net/unix'), 'utf8');
    return table
      .split('\n')
      .slice(1)
      .flatMap((line) => line.split(/\s+/)[7] ?? []);
  }

  async #inNetwork(command: readonly string[]): Promise<void> {
    await promisify(execFile)('nsenter', ['--target', String(this.#initPid), '--net', ...command]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#holder.exitCode !== null || this.#holder.signalCode !== null) return;
    const ended = once(this.#holder, 'exit');
    this.#holder.stdin.end();
    await ended;
  }
}
