// `raylite start --address`: joins this machine to a cluster.
import { rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { ConfigError, ConnectionError, type CurrentCluster, DEFAULT_HTTP_PORT } from '../common/index.js';
import {
  isOurs,
  newSession,
  pruneSessions,
  readCurrent,
  readToken,
  type Session,
  type Started,
  sessionRoot,
  startProcess,
  writeCurrent,
} from '../launch/index.js';
import { hostOf, isLoopback } from '../protocol/tls/index.js';
import { firstSignal, stay } from './foreground.js';
import { portOf, urlHostOf } from './host-port.js';
import { paint, print, printJson } from './output.js';
import { givenToken, nodeOptions, type StartOptions, tlsInUse } from './start-options.js';

const CONNECT_MS_MAX = 5_000;

export async function joinCluster(options: StartOptions, address: string): Promise<void> {
  const root = sessionRoot();
  const former = readCurrent(root);
  const token = givenToken(options) ?? (former?.headAddress === address ? readToken(former.tokenFile) : null);
  if (token === null) {
    throw new ConfigError(
      '--token-file',
      'the token of the cluster',
      undefined,
      'Give --token-file PATH or set RAYLITE_TOKEN, as "raylite start --head" printed it',
    );
  }
  const node = nodeOptions(options);
  const localHost = await reach(address);
  const session: Session = newSession(root, token);
  const signalled = options.block ? firstSignal() : null;
  let agent: Started<'node'>;
  try {
    agent = await startProcess('node', {
      ...node,
      token,
      headAddress: address,
      host: options.nodeHost ?? (isLoopback(urlHostOf(address)) ? null : localHost),
      sessionDir: session.dir,
      isHeadNode: false,
      diesWithParent: options.block === true,
    });
  } catch (error) {
    rmSync(session.dir, { recursive: true, force: true });
    throw error;
  }
  const { drainSeconds = 0 } = node;
  const running = former?.pids.filter((pid) => isOurs(pid, root)) ?? [];
  const current: CurrentCluster =
    former && running.length > 0
      ? { ...former, pids: [...running, agent.pid], drainSeconds }
      : {
          sessionDir: session.dir,
          headAddress: address,
          httpUrl: `http://${urlHostOf(address)}:${DEFAULT_HTTP_PORT}`, // its usual place; --address says another
          tokenFile: session.tokenFile,
          agentUds: agent.ready.uds,
          nodeId: agent.ready.nodeId,
          pids: [agent.pid],
          drainSeconds,
          tls: tlsInUse(),
        };
  writeCurrent(root, current);
  pruneSessions(root, [session.dir, current.sessionDir]);
  if (options.json) printJson({ ...current, joinedNodeId: agent.ready.nodeId });
  else {
    print(`${paint('green', 'Joined')} ${address} as node ${agent.ready.nodeId}.`);
    print('  leave again   raylite stop');
  }
  if (signalled !== null) await stay(root, [agent], signalled, node.drainSeconds);
}

/** Connects to the head once: fails soon and clearly when nothing is there, and tells by which address we reach it. */
function reach(address: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const host = hostOf(address);
    const socket = createConnection({ host, port: portOf(address), timeout: CONNECT_MS_MAX });
    const fail = (detail: string, cause?: unknown): void => {
      socket.destroy();
      reject(
        new ConnectionError(
          {
            address,
            detail: `${detail}. Is the head running there ("raylite start --head --host …"), and is the address right?`,
          },
          { cause },
        ),
      );
    };
    socket.once('connect', () => {
      const local = socket.localAddress ?? '127.0.0.1';
      socket.destroy();
      resolve(local);
    });
    socket.once('timeout', () => fail(`nothing answered within ${CONNECT_MS_MAX / 1000} s`));
    socket.once('error', (cause: NodeJS.ErrnoException) => fail(`nothing answers there (${cause.code})`, cause));
  });
}
