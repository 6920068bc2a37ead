// Joining a cluster: an address, the environment, or a cluster of one's own.
import { hostname } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  ConfigError,
  ConnectionError,
  type JobId,
  type NodeId,
  newWorkerId,
  PROTOCOL_VERSION,
  type WorkerId,
} from '../common/index.js';
import {
  adoptCurrent,
  type EmbeddedCluster,
  type NodeOffer,
  offeredResources,
  readToken,
  sessionRoot,
  startEmbedded,
} from '../launch/index.js';
import { asError, type Channel, type wire } from '../protocol/index.js';
import { handleHost } from './actor-handle.js';
import { AgentLink, type AgentPushes } from './agent-link.js';
import { Awake } from './awake.js';
import { findRuntime, setRuntime } from './current.js';
import { HeadLink, headOverGrpc } from './head-link.js';
import { startLocal } from './local-cluster.js';
import { packageFolders } from './package-folders.js';
import { type Accept, type PeerDoor, SocketDoor } from './peer-door.js';
import { Peers } from './peers.js';
import { Runtime } from './runtime.js';
import { checkJobEnv, type RuntimeEnvOptions, runtimeEnvWith } from './runtime-env.js';
import { ObjectStore } from './store.js';
import { WorkerOutput } from './worker-output.js';

export interface InitOptions extends NodeOffer {
  /** "host:port" of the head; "auto": the cluster that `raylite start` started here; "local": always one of our own. */
  readonly address?: string;
  /** The cluster's token. Default: $RAYLITE_TOKEN, the file $RAYLITE_TOKEN_FILE, or the one of the cluster on this machine. */
  readonly token?: string;
  /** Names of actors are unique in it. Default: one of this driver alone. */
  readonly namespace?: string;
  /**
   * Runs everything in this process, for debugging: the same calls, values, errors and limits, with no other process. Code
   * shares this process's modules, environment and event loop; ending a task or actor by force leaves its code running.
   */
  readonly local?: boolean;
  readonly runtimeEnv?: RuntimeEnvOptions;
  /** Prints what workers write; what several write alike is counted ($RAYLITE_DEDUP_LOGS=0: shown each time). Default true. */
  readonly logToDriver?: boolean;
}

/** A cluster that this process has joined; disposing leaves it, and ends it if it was started by `init`. */
export interface Cluster extends AsyncDisposable {
  /** Leaves the cluster, for scripts without `await using`. Without it a script leaves when it has nothing left to wait for. */
  close(): Promise<void>;
  readonly address: string;
  /** The page and the HTTP API. */
  readonly httpUrl: string;
  readonly clusterId: string;
  readonly jobId: JobId;
  readonly namespace: string;
  readonly nodeId: string;
  readonly isEmbedded: boolean;
}

/** How long a driver that leaves waits for the last output of its workers. */
const FLUSH_MS_MAX = 1_000;

const OPTIONS = [
  'address',
  'token',
  'namespace',
  'local',
  'runtimeEnv',
  'logToDriver',
  'numCpus',
  'numGpus',
  'resources',
  'objectStoreMemory',
];

/** What is needed to join. */
interface Entrance {
  readonly headAddress: string;
  readonly token: string;
  readonly openHead: () => Promise<Channel>;
  readonly openAgent: (head: HeadLink, pushes: AgentPushes) => Promise<AgentLink>;
  readonly openDoor: (attached: wire.Attached, workerId: WorkerId, accept: Accept) => Promise<PeerDoor>;
}

/**
 * Joins the cluster of `address`, of $RAYLITE_ADDRESS, or starts one of its own on this machine that ends with this
 * process. Rejects with ConfigError, ConnectionError or StartFailedError.
 */
export async function init(options: InitOptions = {}): Promise<Cluster> {
  for (const key of Object.keys(options))
    if (!OPTIONS.includes(key)) throw new ConfigError(`init.${key}`, `one of ${OPTIONS.join(', ')}`, key);
  checkJobEnv(options.runtimeEnv);
  if (findRuntime())
    throw new ConfigError(
      'init',
      'to be called once',
      'a second time',
      'This process has joined a cluster: leave it first, or drop the call (workers have joined already)',
    );
  if (options.local) return initLocal(options);
  const address = options.address ?? process.env.RAYLITE_ADDRESS ?? 'local';
  let embedded: EmbeddedCluster | null = null;
  if (address === 'local') {
    // Meanwhile this process has time to load what it will talk to the head with.
    [embedded] = await Promise.all([startEmbedded(options), import('../protocol/grpc/index.js')]);
  } else if (options.numCpus ?? options.numGpus ?? options.resources ?? options.objectStoreMemory)
    throw new ConfigError(
      'init',
      'no numCpus, numGpus, resources or objectStoreMemory',
      address,
      'They belong to the start of a node, and the cluster at this address already runs',
    );
  try {
    return await joinCluster(entranceOf(embedded ?? addressOf(address, options.token)), options, embedded);
  } catch (error) {
    await embedded?.[Symbol.asyncDispose]();
    throw error;
  }
}

/** Refuses what would need another process. */
async function initLocal(options: InitOptions): Promise<Cluster> {
  for (const key of ['address', 'token', 'objectStoreMemory'] as const)
    if (options[key] !== undefined) throw new ConfigError(`init.${key}`, 'nothing beside local: true', options[key]);
  if (options.runtimeEnv?.workingDir !== undefined)
    throw new ConfigError('runtimeEnv.workingDir', 'nothing beside local: true', options.runtimeEnv.workingDir);
  const { resources } = offeredResources(options);
  const cluster = await startLocal(resources);
  const entrance: Entrance = {
    headAddress: 'local',
    token: '',
    openHead: cluster.head,
    openAgent: async (_, pushes) => AgentLink.over(cluster.agent(), 'local', pushes),
    openDoor: (_, __, accept) => cluster.openDoor(accept),
  };
  try {
    return await joinCluster(entrance, options, cluster);
  } catch (error) {
    await cluster[Symbol.asyncDispose]();
    throw error;
  }
}

/** Where a cluster's processes are. */
interface Place {
  readonly headAddress: string;
  readonly token: string;
  readonly agentUds: string | null; // null: ask the head for the node of this machine
}

const entranceOf = ({ headAddress, token, agentUds }: Place): Entrance => ({
  headAddress,
  token,
  openHead: headOverGrpc(headAddress, token),
  openAgent: async (head, pushes) => AgentLink.connect(agentUds ?? (await findAgent(head, headAddress)), pushes),
  openDoor: ({ socketDir, host, nodeId }, workerId, accept) =>
    SocketDoor.open({ uds: join(socketDir, `d-${workerId}`), host, token, nodeId: nodeId as NodeId }, accept),
});

function addressOf(address: string, given: string | undefined): Place {
  const here = adoptCurrent(sessionRoot());
  if (address === 'auto') {
    if (!here)
      throw new ConnectionError({
        address,
        detail: 'no cluster was started on this machine. Run "raylite start --head"',
      });
    return { headAddress: here.headAddress, token: given ?? read(here.tokenFile), agentUds: here.agentUds };
  }
  const isHere = here?.headAddress === address;
  const file = process.env.RAYLITE_TOKEN_FILE;
  const token = given ?? process.env.RAYLITE_TOKEN ?? (file ? read(file) : isHere ? read(here.tokenFile) : undefined);
  if (!token)
    throw new ConfigError(
      'token',
      'the token of the cluster',
      undefined,
      'Pass init({ token }) or set RAYLITE_TOKEN_FILE',
    );
  return { headAddress: address, token, agentUds: process.env.RAYLITE_AGENT ?? (isHere ? here.agentUds : null) };
}

const read = (file: string): string => readToken(file, 'token');

async function joinCluster(
  entrance: Entrance,
  options: InitOptions,
  embedded: AsyncDisposable | null,
): Promise<Cluster> {
  const workerId = newWorkerId();
  const jobId = process.env.RAYLITE_JOB_ID ?? '';
  const awake = new Awake();
  const address: wire.WorkerAddress.$Properties = { workerId };
  const hello = (): wire.ClientHello.$Properties => ({
    protocol: PROTOCOL_VERSION,
    workerId: runtime?.workerId ?? workerId,
    isDriver: true,
    jobId: runtime?.jobId || jobId, // after a reconnect it is the same job still
    namespace: runtime?.namespace || (options.namespace ?? ''),
    address: runtime?.peers?.address ?? address,
    pid: process.pid,
    entrypoint: process.argv
      .slice(1)
      .map((part) => basename(part))
      .join(' '),
  });
  let runtime: Runtime | null = null;
  const output = options.logToDriver === false ? null : new WorkerOutput(() => runtime?.nodeId ?? '');
  const head = new HeadLink(
    entrance.headAddress,
    entrance.openHead,
    hello,
    {
      actor: (info) => runtime?.actors.get(info.actorId)?.inform(info),
      logLines: (lines) => output?.show(lines),
      leasesWanted: () => runtime?.giveWay(),
    },
    awake,
    false,
  );
  try {
    const agent = await entrance.openAgent(head, {
      assign: () => {},
      exit: () => {},
      vacated: (vacated) => runtime?.store.vacated(vacated),
      collect: () => runtime?.store.collect(),
      tellActivity: () => {},
      holdings: () => runtime?.objects.holdings() ?? {},
      lost: (detail) => {
        // A submitted job ends with the node that runs it; nobody would stop it otherwise.
        if (findRuntime() !== runtime || runtime === null || !process.env.RAYLITE_JOB_ID) return;
        process.stderr.write(`raylite: ${detail}\n`);
        process.exit(1);
      },
    });
    const attached = await agent.attach({ token: entrance.token, workerId, pid: process.pid, isDriver: true, address });
    const store = new ObjectStore(agent, attached);
    runtime = new Runtime({ isDriver: true, agent, attached, store, token: entrance.token, awake }, workerId);
    runtime.handles = handleHost(runtime);
    runtime.head = head;
    runtime.peers = await Peers.open(runtime.service, { workerId, nodeId: runtime.nodeId }, (accept) =>
      entrance.openDoor(attached, workerId, accept),
    );
    const welcome = await head.welcome();
    runtime.jobId = welcome.jobId as JobId;
    runtime.namespace = welcome.namespace;
    runtime.runtimeEnv = await prepareEnv(runtime, options.runtimeEnv, welcome.httpUrl);
    setRuntime(runtime);
    const joined = runtime;
    let closing: Promise<void> | null = null;
    const close = (): Promise<void> => {
      closing ??= end();
      return closing;
    };
    const end = async (): Promise<void> => {
      setRuntime(null);
      process.off('beforeExit', leave);
      await awake.during(flushLogs(joined).then(() => joined.close()));
      output?.close();
      await embedded?.[Symbol.asyncDispose]();
    };
    const leave = (): void => {
      close().catch((error: unknown) => process.stderr.write(`raylite: ${asError(error).stack}\n`));
    };
    process.once('beforeExit', leave);
    for (const held of [head, agent, runtime.peers]) held.unref();
    return {
      address: entrance.headAddress,
      httpUrl: welcome.httpUrl,
      clusterId: welcome.clusterId,
      jobId: joined.jobId,
      namespace: joined.namespace,
      nodeId: joined.nodeId,
      isEmbedded: embedded !== null,
      close,
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    head.close();
    throw error;
  }
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

/** The agent's socket of the node on this machine. */
async function findAgent(head: HeadLink, address: string): Promise<string> {
  const reply = await head.request({ listNodes: {} });
  const nodes = reply.nodes?.nodes ?? [];
  const here = nodes.find((node) => node.hostname === hostname() && node.state === 'ALIVE' && node.uds);
  if (!here?.uds)
    throw new ConnectionError({
      address,
      detail: `no node of that cluster runs on this machine (${hostname()}). Join it first: "raylite start --address ${address}"`,
    });
  return here.uds;
}
