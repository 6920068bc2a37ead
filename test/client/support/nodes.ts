// A cluster of several nodes on one machine: between them everything goes as between machines.
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HeadBoot } from '#src/common/index.js';
import { type AnyStarted, type Started, startProcess } from '#src/launch/index.js';

export const TOKEN = 'a-token-for-the-nodes-of-a-test';
const HOST = '127.0.0.1';

/** A head and nodes on one machine, bound to the loopback address; the first is the head's. */
export class TestNodes implements AsyncDisposable {
  readonly #folder = mkdtempSync(join(tmpdir(), 'rl-nodes-'));
  readonly #started: AnyStarted[] = [];
  readonly #nodes = new Map<string, Started<'node'>>();
  readonly #offers: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly #storeBytes: number;
  #headBoot!: HeadBoot;
  head!: Started<'head'>['ready'];

  /** @param offers what each node has beside two CPUs, by its name */
  constructor(offers: Readonly<Record<string, Readonly<Record<string, number>>>>, storeBytes: number) {
    this.#offers = offers;
    this.#storeBytes = storeBytes;
  }

  node(name: string): Started<'node'>['ready'] {
    return this.#nodes.get(name)!.ready;
  }

  async open(): Promise<void> {
    const sessionDir = this.#session('head');
    this.#headBoot = {
      kind: 'head',
      token: TOKEN,
      diesWithParent: true,
      host: HOST,
      port: 0,
      httpHost: HOST,
      httpPort: 0,
      sessionDir,
      stateDir: join(sessionDir, 'state'),
    };
    await this.startHead();
    for (const name of Object.keys(this.#offers)) await this.addNode(name);
  }

  /** Starts a node: at the beginning those of the offers, later others too. */
  async addNode(name: string, drainSeconds = 0): Promise<void> {
    const node = await startProcess('node', {
      kind: 'node',
      token: TOKEN,
      diesWithParent: true,
      host: HOST,
      headAddress: this.head.address,
      sessionDir: this.#session(name),
      resources: { CPU: 2, ...this.#offers[name] },
      labels: {},
      objectStoreBytes: this.#storeBytes,
      isHeadNode: this.#nodes.size === 0,
      drainSeconds,
    });
    this.#started.push(node);
    this.#nodes.set(name, node);
  }

  /** Again after `killHead`: where it was, with what it knew. */
  async startHead(): Promise<void> {
    const head = await startProcess('head', this.#headBoot);
    this.#started.unshift(head); // ends last
    this.head = head.ready;
    const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(':') + 1));
    this.#headBoot = { ...this.#headBoot, port: portOf(this.head.address), httpPort: portOf(this.head.httpUrl) };
  }

  async killHead(): Promise<void> {
    const { child } = this.#started.shift()!;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  /** Ends a node as a power cut would: its agent and all its workers at once. */
  async killNode(nodeId: string): Promise<void> {
    const [name, node] = [...this.#nodes].find(([, { ready }]) => ready.nodeId === nodeId)!;
    this.#nodes.delete(name);
    this.#started.splice(this.#started.indexOf(node), 1);
    const ended = once(node.child, 'exit');
    node.child.kill('SIGKILL');
    await ended;
  }

  /** Resolves with the exit code of a node that ends, after `name` was sent if one is named. */
  async nodeEnds(nodeId: string, name?: NodeJS.Signals): Promise<number | null> {
    const { child } = [...this.#nodes.values()].find(({ ready }) => ready.nodeId === nodeId)!;
    if (child.exitCode !== null) return child.exitCode;
    const ended = once(child, 'exit');
    if (name) child.kill(name);
    const [code] = (await ended) as [number | null];
    return code;
  }

  /** As `raylite drain`. Resolves with what the head answers. */
  async drain(
    nodeId: string,
    request: Readonly<Record<string, unknown>> = {},
  ): Promise<{ error?: string; state?: string }> {
    const headers = { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' };
    const url = `${this.head.httpUrl}/api/nodes/${nodeId}/drain`;
    const reply = await fetch(url, { method: 'POST', headers, body: JSON.stringify(request) });
    return (await reply.json()) as { error?: string; state?: string };
  }
  /** What the head says of a node. */
  async nodeState(
    nodeId: string,
  ): Promise<{ readonly state: string; readonly stateReason: string | null } | undefined> {
    const reply = await fetch(`${this.head.httpUrl}/api/nodes`, { headers: { authorization: `Bearer ${TOKEN}` } });
    const nodes = (await reply.json()) as { nodeId: string; state: string; stateReason: string | null }[];
    return nodes.find((node) => node.nodeId === nodeId);
  }

  /** The agent of a node stands still: nobody is told, and what the node is asked for does not come. */
  freezeNode(nodeId: string): void {
    [...this.#nodes.values()].find(({ ready }) => ready.nodeId === nodeId)!.child.kill('SIGSTOP');
  }

  #session(name: string): string {
    const path = join(this.#folder, name);
    mkdirSync(join(path, 'logs'), { recursive: true, mode: 0o700 });
    return path;
  }

  /** Bytes of a node's store that are in use, as its last beat said. */
  async storeUse(nodeId: string): Promise<number> {
    const reply = await fetch(`${this.head.httpUrl}/api/nodes`, { headers: { authorization: `Bearer ${TOKEN}` } });
    const nodes = (await reply.json()) as { nodeId: string; beat: { storeUsedBytes: number } | null }[];
    return nodes.find((node) => node.nodeId === nodeId)?.beat?.storeUsedBytes ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { child } of this.#started.reverse()) {
      if (child.exitCode !== null) continue;
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    }
    rmSync(this.#folder, { recursive: true, force: true });
    // The guard of a node that was killed ends when its folder has gone.
    while (isNamedByProcess(this.#folder)) await sleep(50);
  }
}

function isNamedByProcess(folder: string): boolean {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .some((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(folder);
      } catch {
        return false; // it ended meanwhile
      }
    });
}
