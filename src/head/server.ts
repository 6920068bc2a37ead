// One head: the cluster's rules with its doors (gRPC for nodes and clients, HTTP for people and scripts) and its clock.
import { mkdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { type HeadBoot, PACKAGE_ROOT } from '../common/index.js';
import { serveGrpc } from '../protocol/grpc/index.js';
import { advertisedHost } from './advertised-host.js';
import { serveClient } from './client-stream.js';
import { Cluster } from './cluster.js';
import { serveHttp } from './http/server.js';
import { JobLogs } from './job-logs.js';
import { listenError } from './listen-error.js';
import { serveNode } from './node-stream.js';
import { Owned } from './owned.js';
import { PackageStore } from './packages.js';
import { MemoryStore, type Store } from './store.js';

const TICK_MS = 1000;

export interface Head extends AsyncDisposable {
  readonly address: string; // "host:port" that nodes and drivers use
  readonly httpUrl: string;
  readonly cluster: Cluster;
}

/**
 * Starts a head. Rejects with a typed error, and leaves nothing behind, when its state is in use or damaged or a port
 * is taken. `fatal` hears later of what it cannot go on after.
 */
export async function startHead(boot: HeadBoot, fatal: (error: unknown) => void): Promise<Head> {
  await using stack = new Owned();
  const logsDir = join(boot.sessionDir, 'logs');
  mkdirSync(logsDir, { recursive: true, mode: 0o700 });
  const store = stack.use(await openStore(boot.stateDir));
  const logs = stack.use(new JobLogs(logsDir));
  const packages = new PackageStore(join(boot.stateDir ?? boot.sessionDir, 'packages'));
  const cluster = await Cluster.open({ store, logs, now: Date.now, fatal });

  let address = '';
  let httpUrl = '';
  if (boot.port !== 0) await probe(boot.host, boot.port);
  const http = stack.use(
    await serveHttp({
      host: boot.httpHost,
      port: boot.httpPort,
      token: boot.token,
      cluster,
      packages,
      pageDir: join(PACKAGE_ROOT, 'dist/dashboard/page'),
      headAddress: () => address,
    }),
  );
  httpUrl = `http://${advertisedHost(boot.httpHost)}:${http.port}`;
  const door = stack.use(
    await serveGrpc(
      { host: boot.host, port: boot.port, token: boot.token },
      {
        'Head.Node': (channel) => serveNode(cluster, channel, () => httpUrl),
        'Head.Client': (channel, peer) => serveClient(cluster, channel, peer, () => httpUrl),
      },
    ),
  );
  address = `${advertisedHost(boot.host)}:${door.port}`;
  const ticking = setInterval(() => cluster.tick(), TICK_MS);
  stack.defer(() => clearInterval(ticking));
  stack.defer(() => cluster.close());
  const owned = stack.move();
  return { address, httpUrl, cluster, [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose]() };
}

/** Embedded clusters keep nothing, and do without the database. */
async function openStore(stateDir: string | null): Promise<Store> {
  if (stateDir === null) return new MemoryStore();
  const { LevelStore } = await import('./level-store.js');
  return LevelStore.open(stateDir);
}

/** Fails with the fitting words when the port is taken: gRPC's own error does not say why. */
function probe(host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (cause: NodeJS.ErrnoException) => reject(listenError('port', { host, port }, cause)));
    server.listen(port, host, () => server.close(() => resolve()));
  });
}
