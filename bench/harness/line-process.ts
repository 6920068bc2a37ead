// A measured process: it says {"ready": version} on its first line, then answers each line it is sent with one JSON line.
// raylite and its peers are driven the same way, so that neither pays for the harness.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { Sample } from './figure.js';

const END_MS = 20_000;

export class LineProcess implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterableIterator<string>;
  readonly #reader: Interface;
  readonly #exited: Promise<unknown>;
  readonly #command: string;

  private constructor(command: string, args: readonly string[], env: NodeJS.ProcessEnv) {
    this.#command = [command, ...args].join(' ');
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, ...env } });
    this.#exited = once(this.#child, 'exit');
    this.#reader = createInterface(this.#child.stdout);
    this.#lines = this.#reader[Symbol.asyncIterator]();
  }

  /** Starts the process and waits for its first line, which is returned too. */
  static async start(
    command: string,
    args: readonly string[],
    env: NodeJS.ProcessEnv = {},
  ): Promise<{ readonly process: LineProcess; readonly hello: Record<string, unknown> }> {
    const process = new LineProcess(command, args, env);
    return { process, hello: await process.#next() };
  }

  async ask(line: string): Promise<Sample> {
    this.#child.stdin.write(`${line}\n`);
    const answer = await this.#next();
    if (typeof answer.value !== 'number') throw new Error(`${this.#command} answered ${JSON.stringify(answer)}`);
    return answer as Sample;
  }

  /** The most memory that the process had resident while it answered `line`. */
  async peakBytes(line: string): Promise<number> {
    writeFileSync(`/proc/${this.#child.pid}/clear_refs`, '5'); // the peak starts anew: proc(5)
    await this.ask(line);
    const status = readFileSync(`/proc/${this.#child.pid}/status`, 'utf8');
    return Number(status.match(/^VmHWM:\s+(\d+) kB$/m)![1]) * 1024;
  }

  /** Closes its input, upon which it ends by itself. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), END_MS);
    await this.#exited;
    clearTimeout(timer);
    this.#reader.close();
  }

  /** The next line that is JSON; libraries may print other things. */
  async #next(): Promise<Record<string, unknown>> {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) throw new Error(`${this.#command} ended before it answered`);
      if (value.startsWith('{')) return JSON.parse(value) as Record<string, unknown>;
    }
  }
}

export interface Command {
  readonly command: string;
  readonly args: readonly string[];
}

export interface Sides extends AsyncDisposable {
  readonly ours: LineProcess;
  readonly peer: LineProcess | null;
  /** Name and version of the peer; empty without one. */
  readonly peerName: string;
}

/** Starts the peer (if there is one) and ours; ends both together. */
export async function startSides(ours: Command, peer: Command | null): Promise<Sides> {
  const other = peer && (await LineProcess.start(peer.command, peer.args));
  try {
    const own = (await LineProcess.start(ours.command, ours.args)).process;
    return {
      ours: own,
      peer: other?.process ?? null,
      peerName: String(other?.hello.ready ?? ''),
      async [Symbol.asyncDispose]() {
        await own[Symbol.asyncDispose]();
        await other?.process[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await other?.process[Symbol.asyncDispose]();
    throw error;
  }
}
