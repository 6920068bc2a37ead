// `init`: joins a cluster by an address or the environment, or starts one of its own.
import { ConfigError, type JobId } from '../common/index.js';
import { type EmbeddedCluster, type NodeOffer, offeredResources, startEmbedded } from '../launch/index.js';
import { AgentLink } from './agent-link.js';
import { findRuntime } from './current.js';
import { addressOf, type Entrance, entranceOf } from './entrance.js';
import { joinCluster } from './join-cluster.js';
import { startLocal } from './local-cluster.js';
import { checkJobEnv, type RuntimeEnvOptions } from './runtime-env.js';

/** How a process joins a cluster, or what one of its own offers. */
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
