// `raylite start --head`: a head and a node of a new cluster, or the head of one that lost it.
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import {
  ConfigError,
  type CurrentCluster,
  DEFAULT_HEAD_PORT,
  DEFAULT_HTTP_PORT,
  formatResources,
  type Resources,
} from '../common/index.js';
import {
  type AnyStarted,
  isHeadProcess,
  isOurs,
  newSession,
  pruneSessions,
  readCurrent,
  readHeadOptions,
  readToken,
  saveHeadOptions,
  sessionRoot,
  startProcess,
  stopProcesses,
  writeCurrent,
} from '../launch/index.js';
import { isLoopback, tlsOf } from '../protocol/tls/index.js';
import { firstSignal, stay } from './foreground.js';
import { portOf, urlHostOf } from './host-port.js';
import { paint, print, printJson } from './output.js';
import { givenToken, nodeOptions, type StartOptions, tlsInUse } from './start-options.js';

export async function startHead(options: StartOptions): Promise<void> {
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
        host: isLoopback(host) ? null : urlHostOf(address),
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

const newToken = (): string => randomBytes(32).toString('hex');

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
  const tls = tlsOf(urlHostOf(current.headAddress), token);
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
