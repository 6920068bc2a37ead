// Two nodes and a driver in which a test arms faults (src/protocol/faults.ts), one by one.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Told } from './fault-driver.js';
import { TestNodes, TOKEN } from './nodes.js';

const STORE_BYTES = 64 * 1024 * 1024;
/** A driver that loses its first message does not join; the next one does. */
const STARTS_MAX = 3;

export class FaultBench {
  readonly #folder = mkdtempSync(join(tmpdir(), 'rl-faults-'));
  readonly #armed = join(this.#folder, 'armed');
  readonly #notes = join(this.#folder, 'notes');
  readonly #nodes = new TestNodes({ here: {}, there: {} }, STORE_BYTES);
  #driver: ChildProcess | null = null;

  async open(): Promise<void> {
    mkdirSync(this.#armed);
    writeFileSync(this.#notes, '');
    process.env.RAYLITE_TESTING_RPC_FAILURE_DIR = this.#armed;
    await this.#nodes.open();
    delete process.env.RAYLITE_TESTING_RPC_FAILURE_DIR;
  }

  /** The fault befalls the next message of that name, in whatever process. */
  arm(name: string, fault: string): void {
    writeFileSync(join(this.#armed, `${name}=${fault}`), '');
  }
  /** What has not befallen any message yet. */
  get armed(): readonly string[] {
    return readdirSync(this.#armed);
  }
  disarm(): void {
    for (const name of this.armed) rmSync(join(this.#armed, name), { force: true });
  }

  /** What came of the driver's work; `driver` says that it ended, with the last code. */
  async run(key: string, parts: readonly string[]): Promise<Readonly<Record<string, Told>>> {
    for (let tries = 0; this.#driver === null && tries < STARTS_MAX; tries += 1) await this.#start();
    const driver = this.#driver;
    if (!driver) throw new Error('the driver does not start');
    const ended = once(driver, 'exit');
    driver.send({ key, parts });
    const [told] = (await Promise.race([once(driver, 'message'), ended])) as [Record<string, Told> | number | null];
    const hasEnded = typeof told !== 'object' || told === null;
    const hasLostNode = !hasEnded && Object.values(told).some((each) => JSON.stringify(each).includes('_CONNECTION'));
    if (hasLostNode) {
      driver.kill('SIGKILL');
      await ended;
    }
    if (hasEnded || hasLostNode) this.#driver = null;
    return hasEnded ? { driver: { code: 'ENDED', message: `it ended with ${told}` } } : told;
  }

  /** Which work was done under that key, each time it was. */
  notesOf(key: string): readonly string[] {
    const lines = readFileSync(this.#notes, 'utf8').split('\n');
    return lines.filter((line) => line.startsWith(`${key}-`));
  }

  /** The driver leaves the cluster. */
  async leave(): Promise<void> {
    const driver = this.#driver;
    this.#driver = null;
    if (!driver) return;
    const ended = once(driver, 'exit');
    driver.send({ key: '', parts: [] });
    await ended;
  }

  async close(): Promise<void> {
    this.disarm();
    await this.leave();
    await this.#nodes[Symbol.asyncDispose]();
    rmSync(this.#folder, { recursive: true });
  }

  async #start(): Promise<void> {
    const script = fileURLToPath(new URL('./fault-driver.js', import.meta.url));
    const args = [this.#nodes.head.address, this.#nodes.node('there').nodeId, this.#notes];
    const child = fork(script, args, {
      env: {
        ...process.env,
        RAYLITE_TOKEN: TOKEN,
        RAYLITE_AGENT: this.#nodes.node('here').uds,
        RAYLITE_TESTING_RPC_FAILURE_DIR: this.#armed,
      },
      silent: true, // a start that fails says so
    });
    const [said] = (await Promise.race([once(child, 'message'), once(child, 'exit')])) as unknown[];
    if (said === 'ready') this.#driver = child;
  }
}
