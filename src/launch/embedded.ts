// A whole cluster for one driver: a head and a node agent as its children, which end with it however it ends.
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { type NodeOffer, offeredResources } from './offer.js';
import { DRIVER_PREFIX, newSessionDir, sessionRoot } from './session.js';
import { type AnyStarted, startProcess } from './start-process.js';

export interface EmbeddedCluster extends AsyncDisposable {
  readonly headAddress: string;
  readonly agentUds: string;
  readonly token: string;
  readonly sessionDir: string;
}

const STOP_MS_MAX = 3_000;

/** Starts a cluster of this process alone. Rejects as `startProcess` does, or with ConfigError for the offer. */
export async function startEmbedded(offer: NodeOffer): Promise<EmbeddedCluster> {
  const offered = offeredResources(offer);
  const sessionDir = newSessionDir(sessionRoot(), DRIVER_PREFIX);
  const token = randomBytes(32).toString('hex');
  const started: AnyStarted[] = [];
  const stop = async (): Promise<void> => {
    // The agent first: its farewell reaches the head.
    for (const process of started.reverse()) await end(process);
    rmSync(sessionDir, { recursive: true, force: true });
  };
  const common = { token, sessionDir, diesWithParent: true };
  try {
    const local = { host: '127.0.0.1', port: 0, httpHost: '127.0.0.1', httpPort: 0 };
    // Both at a time: most of their start is loading code. The node hears of the head by then.
    const head = startProcess('head', { kind: 'head', ...common, ...local, stateDir: null });
    const node = startProcess(
      'node',
      { kind: 'node', ...common, ...offered, headAddress: null, host: null, labels: {}, isHeadNode: true },
      head.then(({ ready }) => ready.address),
    );
    for (const result of await Promise.allSettled([head, node]))
      if (result.status === 'fulfilled') started.push(result.value);
    const headAddress = (await head).ready.address;
    const agentUds = (await node).ready.uds;
    for (const { child } of started) {
      child.unref();
      child.channel?.unref();
    }
    return { headAddress, agentUds, token, sessionDir, [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Politely, then by force. */
async function end({ child }: AnyStarted): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.ref();
  child.kill('SIGTERM');
  const force = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX);
  await ended;
  clearTimeout(force);
}
