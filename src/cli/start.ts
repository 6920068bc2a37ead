// `raylite start`: makes this machine the head of a new cluster, or joins it to one.
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import {
  ConfigError,
  ConnectionError,
  type CurrentCluster,
  DEFAULT_HEAD_PORT,
  DEFAULT_HTTP_PORT,
  formatResources,
  type NodeBoot,
  type Resources,
} from '../common/index.js';
import {
  type AnyStarted,
  isHeadProcess,
  isOurs,
  newSession,
  offeredResources,
  pruneSessions,
  readCurrent,
  readHeadOptions,
  readToken,
  removeCurrent,
  type Session,
  type Started,
  saveHeadOptions,
  sessionRoot,
  startProcess,
  stopProcesses,
  writeCurrent,
} from '../launch/index.js';
import { isLoopback, tlsOf } from '../protocol/tls/index.js';
import { addressOption, amountOption, bytesOption, labelsOption, portOption, resourcesOption } from './options.js';
import { EXIT_FAILURE, EXIT_INTERRUPTED, paint, print, printJson } from './output.js';

interface StartOptions {
  readonly head?: true;
  readonly address?: string;
  readonly port?: number;
  readonly host?: string;
  readonly dashboardHost?: string;
  readonly dashboardPort?: number;
  readonly nodeHost?: string;
  readonly numCpus?: number;
  readonly numGpus?: number;
  readonly resources?: Resources;
  readonly labels?: Record<string, string>;
  readonly objectStoreMemory?: number;
  readonly token?: string;
  readonly tokenFile?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsCa?: string;
  readonly block?: true;
  readonly json?: true;
}

const CONNECT_MS_MAX = 5_000;

export function register(program: Command): void {
  program
    .command('start')
    .summary('start a cluster here, or join this machine to one')
    .description(
      'Starts the head of a cluster on this machine (--head), or joins this machine to a cluster (--address).',
    )
    .option('--head', 'make this machine the head of a cluster')
    .option('--address <host:port>', 'join the cluster whose head is there', addressOption('--address'))
    .option('--host <address>', 'address to listen on; other machines need one they can reach (default: 127.0.0.1)')
    .option('--port <port>', `port of the head (default: ${DEFAULT_HEAD_PORT})`, portOption('--port'))
    .option('--dashboard-host <address>', 'address of the page and the jobs API (default: as --host)')
    .option(
      '--dashboard-port <port>',
      `port of the page and the jobs API (default: ${DEFAULT_HTTP_PORT})`,
      portOption('--dashboard-port'),
    )
    .option('--node-host <address>', 'address at which other nodes reach this one (default: found by connecting)')
    .option('--num-cpus <n>', 'CPUs to offer (default: all)', amountOption('--num-cpus'))
    .option('--num-gpus <n>', 'GPUs to offer (default: all)', amountOption('--num-gpus'))
    .option('--resources <json>', 'resources of your own, such as \'{"disk": 2}\'', resourcesOption('--resources'))
    .option('--labels <k=v,…>', 'labels of this node', labelsOption('--labels'))
    .option(
      '--object-store-memory <size>',
      'size of the object store, such as 2GiB',
      bytesOption('--object-store-memory'),
    )
    .option('--token-file <path>', 'file with the cluster token (also $RAYLITE_TOKEN)')
    .option('--token <token>', 'the cluster token; others can see it in the process list while the command runs')
    .option('--tls-cert <path>', 'certificate of your own for this node (default: one that follows from the token)')
    .option('--tls-key <path>', 'its private key')
    .option('--tls-ca <path>', 'authority that vouches for the certificates of all nodes (default: --tls-cert itself)')
    .option('--block', 'stay in the foreground; ends the processes with this command')
    .option('--json', 'print what was started as JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  $ raylite start --head\n  $ raylite start --head --host 10.0.0.1 --num-cpus 8\n  $ RAYLITE_TOKEN=… raylite start --address 10.0.0.1:6379',
    )
    .action(async (options: StartOptions) => {
      if (options.head && options.address)
        throw new ConfigError('--address', 'nothing together with --head', options.address);
      for (const [name, path] of Object.entries(ownTls(options))) process.env[name] = path;
      if (options.head) await startHead(options);
      else if (options.address) await joinCluster(options, options.address);
      else
        throw new ConfigError(
          '--head',
          '--head or --address',
          undefined,
          'raylite start --head begins a cluster on this machine',
        );
    });
}

/** Certificates of the user's own, as what starts here hears of them. */
function ownTls({ tlsCert, tlsKey, tlsCa }: StartOptions): Record<string, string> {
  const given = { RAYLITE_TLS_CERT: tlsCert, RAYLITE_TLS_KEY: tlsKey, RAYLITE_TLS_CA: tlsCa };
  return Object.fromEntries(Object.entries(given).flatMap(([name, path]) => (path ? [[name, resolve(path)]] : [])));
}

/** What is set, by flags or from outside; other processes of this machine that join are told. */
const tlsInUse = (): Record<string, string> =>
  Object.fromEntries(
    ['RAYLITE_TLS', 'RAYLITE_TLS_CERT', 'RAYLITE_TLS_KEY', 'RAYLITE_TLS_CA'].flatMap((name) =>
      process.env[name] ? [[name, process.env[name]]] : [],
    ),
  );

async function startHead(options: StartOptions): Promise<void> {
  const root = sessionRoot();
  const former = readCurrent(root);
  if (former?.pids.some((pid) => isHeadProcess(pid, root))) {
    throw new ConfigError(
      '--head',
      'no running cluster of this user',
      former.headAddress,
      'See it with "raylite status", or end it with "raylite stop"',
    );
  }
  // The head was lost, not stopped: the same cluster goes on, on the same port, with the nodes that still run.
  const node = nodeOptions(options); // before anything is made: it finds mistakes
  const saved = former ? readHeadOptions(former.sessionDir) : null;
  const session =
    former && saved
      ? { dir: former.sessionDir, tokenFile: former.tokenFile }
      : newSession(root, givenToken(options) ?? newToken());
  for (const [name, value] of Object.entries(saved?.tls ?? {})) process.env[name] ??= value;
  const token = readToken(session.tokenFile);
  const host = options.host ?? saved?.host ?? '127.0.0.1';
  const httpHost = options.dashboardHost ?? saved?.httpHost ?? host;
  const started: AnyStarted[] = [];
  const diesWithParent = options.block === true;
  const signalled = options.block ? firstSignal() : null;
  try {
    const head = await startProcess('head', {
      kind: 'head',
      host,
      port: options.port ?? saved?.port ?? DEFAULT_HEAD_PORT,
      httpHost,
      httpPort: options.dashboardPort ?? saved?.httpPort ?? DEFAULT_HTTP_PORT,
      token,
      sessionDir: session.dir,
      stateDir: join(session.dir, 'state'),
      diesWithParent,
    });
    started.push(head);
    const { address, httpUrl } = head.ready;
    const tls = tlsInUse();
    saveHeadOptions(session.dir, { host, port: portOf(address), httpHost, httpPort: portOf(httpUrl), tls });
    const survivors = former ? former.pids.filter((pid) => isOurs(pid, root)) : [];
    let nodeId = former?.nodeId ?? '';
    let agentUds = former?.agentUds ?? '';
    if (survivors.length === 0) {
      const agent = await startProcess('node', {
        ...node,
        token,
        headAddress: address,
        host: isLoopback(host) ? null : hostOf(address),
        sessionDir: session.dir,
        isHeadNode: true,
        diesWithParent,
      });
      started.push(agent);
      nodeId = agent.ready.nodeId;
      agentUds = agent.ready.uds;
    }
    const current: CurrentCluster = {
      sessionDir: session.dir,
      headAddress: address,
      httpUrl,
      tokenFile: session.tokenFile,
      agentUds,
      nodeId,
      pids: [...started.map(({ pid }) => pid), ...survivors],
      tls,
    };
    writeCurrent(root, current);
    pruneSessions(root, [session.dir]);
    if (options.json) printJson({ ...current, isRestarted: saved !== null });
    else tellHead(current, token, node.resources, saved !== null, survivors.length);
  } catch (error) {
    await stopProcesses(
      started.map(({ pid }) => pid),
      root,
    );
    if (!saved) rmSync(session.dir, { recursive: true, force: true });
    throw error;
  }
  if (signalled !== null) await stay(root, started, signalled);
}

async function joinCluster(options: StartOptions, address: string): Promise<void> {
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
      host: options.nodeHost ?? (isLoopback(hostOf(address)) ? null : localHost),
      sessionDir: session.dir,
      isHeadNode: false,
      diesWithParent: options.block === true,
    });
  } catch (error) {
    rmSync(session.dir, { recursive: true, force: true });
    throw error;
  }
  const running = former?.pids.filter((pid) => isOurs(pid, root)) ?? [];
  const current: CurrentCluster =
    former && running.length > 0
      ? { ...former, pids: [...running, agent.pid] }
      : {
          sessionDir: session.dir,
          headAddress: address,
          httpUrl: `http://${hostOf(address)}:${DEFAULT_HTTP_PORT}`, // its usual place; --address says another
          tokenFile: session.tokenFile,
          agentUds: agent.ready.uds,
          nodeId: agent.ready.nodeId,
          pids: [agent.pid],
          tls: tlsInUse(),
        };
  writeCurrent(root, current);
  pruneSessions(root, [session.dir, current.sessionDir]);
  if (options.json) printJson({ ...current, joinedNodeId: agent.ready.nodeId });
  else {
    print(`${paint('green', 'Joined')} ${address} as node ${agent.ready.nodeId}.`);
    print('  leave again   raylite stop');
  }
  if (signalled !== null) await stay(root, [agent], signalled);
}

function nodeOptions(
  options: StartOptions,
): Omit<NodeBoot, 'token' | 'headAddress' | 'host' | 'sessionDir' | 'isHeadNode' | 'diesWithParent'> {
  return { kind: 'node', ...offeredResources(options, flagOf), labels: options.labels ?? {} };
}

/** "--object-store-memory" of "objectStoreMemory". */
const flagOf = (field: string): string => `--${field.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

/** From a flag, a file or the environment; null when none names one. */
function givenToken(options: Pick<StartOptions, 'token' | 'tokenFile'>): string | null {
  if (options.tokenFile !== undefined) return readToken(options.tokenFile);
  const token = options.token ?? process.env.RAYLITE_TOKEN;
  if (token === undefined || token === '') return null;
  if (!/^[\x21-\x7e]{16,512}$/.test(token)) {
    throw new ConfigError('--token', 'a token of 16 to 512 printable characters', `${token.length} characters`);
  }
  return token;
}

const newToken = (): string => randomBytes(32).toString('hex');
const hostOf = (address: string): string => address.slice(0, address.lastIndexOf(':'));
const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(':') + 1));

/** Connects to the head once: fails soon and clearly when nothing is there, and tells by which address we reach it. */
function reach(address: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const host = hostOf(address).replace(/^\[|\]$/g, '');
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

function tellHead(
  current: CurrentCluster,
  token: string,
  resources: Resources,
  isRestarted: boolean,
  survivors: number,
): void {
  print(
    `${paint('green', isRestarted ? 'Restarted the head of your cluster' : 'Started a cluster')} at ${paint('bold', current.headAddress)}.`,
  );
  if (isRestarted && survivors > 0) print('  Its nodes, actors and jobs are taken up again as they come back.');
  else print(`  this node     ${formatResources(resources)}`);
  const tls = tlsOf(hostOf(current.headAddress), token);
  // Browsers know certificates of the user's own, not the cluster's.
  const page = tls?.isOwn ? current.httpUrl.replace(/^http:/, 'https:') : current.httpUrl;
  print(`  page          ${page}/login?token=${token}`);
  print(`  join          RAYLITE_TOKEN=${token} raylite start --address ${current.headAddress}`);
  print(`  token file    ${current.tokenFile}`);
  if (tls)
    print(
      `  between nodes TLS, ${tls.isOwn ? 'with your certificate' : 'with a certificate that follows from the token'}`,
    );
  print();
  print('  look          raylite status');
  print('  run           raylite job submit --working-dir . -- node main.js');
  print('  end           raylite stop');
}

/** The first SIGINT or SIGTERM from now on. Asked for before a process is started, so that no Ctrl-C is lost. */
function firstSignal(): Promise<null> {
  return new Promise((resolve) => {
    process.once('SIGINT', () => {
      process.exitCode = EXIT_INTERRUPTED;
      resolve(null);
    });
    process.once('SIGTERM', () => resolve(null)); // how service managers end it: no failure
  });
}

/** Waits for the signal, or for one of the processes to end by itself, then ends the rest. */
async function stay(root: string, started: readonly AnyStarted[], signalled: Promise<null>): Promise<void> {
  const ended = new Promise<string>((resolve) => {
    for (const { child, ready } of started)
      child.once('exit', (code, signal) => resolve(`the ${ready.kind} ended with ${signal ?? code}`));
  });
  const why = await Promise.race([signalled, ended]);
  const pids = started.map(({ pid }) => pid);
  await stopProcesses(pids, root);
  const left = readCurrent(root);
  const others = left?.pids.filter((pid) => !pids.includes(pid) && isOurs(pid, root)) ?? [];
  if (left && others.length > 0) writeCurrent(root, { ...left, pids: others });
  else removeCurrent(root);
  if (why !== null) {
    process.stderr.write(`${paint('red', 'error', process.stderr)}: ${why}\n`);
    process.exitCode = EXIT_FAILURE;
  }
}
