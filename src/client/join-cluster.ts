// A driver's membership of a cluster, from the first greeting to its orderly end.
import { basename, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type JobId, newWorkerId, PROTOCOL_VERSION, type WorkerId } from '../common/index.js';
import { asError, type wire } from '../protocol/index.js';
import { handleHost } from './actor-handle.js';
import type { AgentPushes } from './agent-link.js';
import { Awake } from './awake.js';
import { findRuntime, setRuntime } from './current.js';
import type { Entrance } from './entrance.js';
import { HeadLink, type HeadPushes } from './head-link.js';
import type { Cluster, InitOptions } from './init.js';
import { packageFolders } from './package-folders.js';
import { Peers } from './peers.js';
import { Runtime } from './runtime.js';
import { type RuntimeEnvOptions, runtimeEnvWith } from './runtime-env.js';
import { ObjectStore } from './store.js';
import { WorkerOutput } from './worker-output.js';

/** How long a driver that leaves waits for the last output of its workers. */
const FLUSH_MS_MAX = 1_000;

/** A driver that joins: its links want to know of its runtime, which is made of them. */
interface Driver {
  readonly workerId: WorkerId;
  readonly awake: Awake;
  /** Null where workers' output is not shown. */
  readonly output: WorkerOutput | null;
  runtime: Runtime | null;
}

/** Joins, and leaves again when the cluster is closed or the process has nothing left to wait for. `embedded` ends with it. */
export async function joinCluster(
  entrance: Entrance,
  options: InitOptions,
  embedded: AsyncDisposable | null,
): Promise<Cluster> {
  const driver: Driver = {
    workerId: newWorkerId(),
    awake: new Awake(),
    output: options.logToDriver === false ? null : new WorkerOutput(() => driver.runtime?.nodeId ?? ''),
    runtime: null,
  };
  const head = openHead(driver, entrance, options.namespace ?? '');
  try {
    const runtime = await makeRuntime(driver, entrance, head);
    const welcome = await head.welcome();
    runtime.jobId = welcome.jobId as JobId;
    runtime.namespace = welcome.namespace;
    runtime.runtimeEnv = await prepareEnv(runtime, options.runtimeEnv, welcome.httpUrl);
    setRuntime(runtime);
    const close = leaver(runtime, driver, embedded);
    for (const held of [head, runtime.agent, runtime.peers]) held.unref();
    return {
      address: entrance.headAddress,
      httpUrl: welcome.httpUrl,
      clusterId: welcome.clusterId,
      jobId: runtime.jobId,
      namespace: runtime.namespace,
      nodeId: runtime.nodeId,
      isEmbedded: embedded !== null,
      close,
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    head.close();
    throw error;
  }
}

function openHead(driver: Driver, entrance: Entrance, namespace: string): HeadLink {
  const jobId = process.env.RAYLITE_JOB_ID ?? '';
  const entrypoint = process.argv
    .slice(1)
    .map((part) => basename(part))
    .join(' ');
  const hello = (): wire.ClientHello.$Properties => ({
    protocol: PROTOCOL_VERSION,
    workerId: driver.workerId,
    isDriver: true,
    jobId: driver.runtime?.jobId || jobId, // after a reconnect it is the same job still
    namespace: driver.runtime?.namespace || namespace,
    address: driver.runtime?.peers?.address ?? { workerId: driver.workerId },
    pid: process.pid,
    entrypoint,
  });
  const pushes: HeadPushes = {
    actor: (info) => driver.runtime?.actors.get(info.actorId)?.inform(info),
    logLines: (lines) => driver.output?.show(lines),
    leasesWanted: () => driver.runtime?.giveWay(),
    nodesDraining: (told) => driver.runtime?.nodesDraining(told),
  };
  return new HeadLink(entrance.headAddress, entrance.openHead, hello, pushes, driver.awake, false);
}

async function makeRuntime(driver: Driver, entrance: Entrance, head: HeadLink): Promise<Runtime> {
  const { workerId, awake } = driver;
  const { token } = entrance;
  const agent = await entrance.openAgent(head, pushesTo(driver));
  const attached = await agent.attach({ token, workerId, pid: process.pid, isDriver: true, address: { workerId } });
  const store = new ObjectStore(agent, attached);
  const runtime = new Runtime({ isDriver: true, agent, attached, store, token, awake }, workerId);
  driver.runtime = runtime;
  runtime.handles = handleHost(runtime);
  runtime.head = head;
  runtime.peers = await Peers.open(runtime.service, { workerId, nodeId: runtime.nodeId }, (accept) =>
    entrance.openDoor(attached, workerId, accept),
  );
  return runtime;
}

/** What the agent of this machine asks of a driver. */
const pushesTo = (driver: Driver): AgentPushes => ({
  assign: () => {},
  exit: () => {},
  vacated: (vacated) => driver.runtime?.store.vacated(vacated),
  collect: () => driver.runtime?.store.collect(),
  tellActivity: () => {},
  holdings: () => driver.runtime?.objects.holdings() ?? {},
  lost: (detail) => {
    // A submitted job ends with the node that runs it; nobody would stop it otherwise.
    if (findRuntime() !== driver.runtime || driver.runtime === null || !process.env.RAYLITE_JOB_ID) return;
    process.stderr.write(`raylite: ${detail}\n`);
    process.exit(1);
  },
});

/** What leaves the cluster, once; the process does so by itself when its event loop is empty. */
function leaver(runtime: Runtime, { awake, output }: Driver, embedded: AsyncDisposable | null): () => Promise<void> {
  let closing: Promise<void> | null = null;
  const close = (): Promise<void> => {
    closing ??= end();
    return closing;
  };
  const end = async (): Promise<void> => {
    setRuntime(null);
    process.off('beforeExit', leave);
    await awake.during(flushLogs(runtime).then(() => runtime.close()));
    output?.close();
    await embedded?.[Symbol.asyncDispose]();
  };
  const leave = (): void => {
    close().catch((error: unknown) => process.stderr.write(`raylite: ${asError(error).stack}\n`));
  };
  process.once('beforeExit', leave);
  return close;
}

/** What workers wrote before the driver left is its output too. */
async function flushLogs({ head }: Runtime): Promise<void> {
  const late = new AbortController();
  await Promise.race([
    head.ask({ flushLogs: {} }).catch(() => {}), // without the head there is no output either
    sleep(FLUSH_MS_MAX, undefined, { signal: late.signal }).catch(() => {}),
  ]);
  late.abort();
}

async function prepareEnv(
  runtime: Runtime,
  env: RuntimeEnvOptions | undefined,
  httpUrl: string,
): Promise<wire.RuntimeEnv.$Properties> {
  const { workingDir, ...given } = env ?? {};
  if (workingDir === undefined)
    return runtimeEnvWith({ package: process.env.RAYLITE_PACKAGE ?? '' }, given, packageFolders(runtime));
  const folder = resolve(workingDir);
  const { packDirectory, uploadPackage } = await import('../launch/package/index.js');
  const packed = await packDirectory(folder, 'runtimeEnv.workingDir');
  await uploadPackage({ url: httpUrl, token: runtime.token }, packed);
  runtime.workingDir = { path: folder, package: packed.sha256 };
  return runtimeEnvWith({ package: packed.sha256 }, given, packageFolders(runtime));
}
