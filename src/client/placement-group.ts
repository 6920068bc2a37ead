// Placement groups as users make and find them: resources set aside together for actors and tasks that belong together.
import { ConfigError, type NodeId, newGroupId, type Resources } from '../common/index.js';
import type { wire } from '../protocol/index.js';
import { currentRuntime } from './current.js';
import { type GetOptions, limited } from './limited.js';
import { checkBundle, checkKeys, checkTimeout, type ResourceOptions, resourcesOf } from './options.js';

/** What is set aside on one node. */
export interface Bundle extends ResourceOptions {
  /** Labels that the node must have. */
  readonly labels?: Readonly<Record<string, string>>;
}

/** PACK: few nodes. SPREAD: many. STRICT_PACK: one. STRICT_SPREAD: a node for each bundle. */
export type PlacementGroupStrategy = 'PACK' | 'SPREAD' | 'STRICT_PACK' | 'STRICT_SPREAD';
const STRATEGIES: readonly string[] = ['PACK', 'SPREAD', 'STRICT_PACK', 'STRICT_SPREAD'];

/** What a placement group sets aside, and where. */
export interface PlacementGroupOptions {
  readonly bundles: readonly Bundle[];
  /** Default PACK. */
  readonly strategy?: PlacementGroupStrategy;
  /** A label: all nodes of the group have the same value of it (a rack, a switch, a zone). */
  readonly topologyDomain?: string;
  /** Unique among the groups of the namespace; others find it with `getPlacementGroup`. */
  readonly name?: string;
  readonly namespace?: string;
  /** 'detached': outlives its creator, until `remove`. */
  readonly lifetime?: 'detached';
  /** What to do when the cluster could never hold it: InfeasibleError at once (default), or wait for nodes. */
  readonly infeasible?: 'refuse' | 'wait';
}

/** How a placement group stands. */
export interface PlacementGroupInfo {
  /** PENDING: waits for room. RESCHEDULING: a node was lost, and other room is looked for. */
  readonly state: 'PENDING' | 'CREATED' | 'RESCHEDULING';
  readonly strategy: PlacementGroupStrategy;
  /** Of each bundle: what it has, and its node (null: none now). */
  readonly bundles: readonly { readonly resources: Resources; readonly nodeId: NodeId | null }[];
  /** Why it waits; empty when it does not. */
  readonly reason: string;
}

/** How long a word of the head that a group is created is good for: a node may be lost. */
const FRESH_MS = 100;

/** A placement group. Named in the option `placementGroup` of actors and tasks that are to run in it. */
export class PlacementGroup implements AsyncDisposable {
  readonly id: string;
  readonly bundleCount: number;
  /** When the head said that all bundles are set aside; what it said a moment ago, `ready()` need not ask again. */
  #createdAtMs: number;

  /** Made by {@link placementGroup}. */
  constructor(id: string, bundleCount: number, isCreated = false) {
    this.id = id;
    this.bundleCount = bundleCount;
    this.#createdAtMs = isCreated ? performance.now() : Number.NEGATIVE_INFINITY;
  }

  /**
   * Resolves once all bundles are set aside. Rejects with PlacementGroupRemovedError when it is gone; after GetTimeoutError
   * the group goes on waiting all the same.
   */
  async ready(options: GetOptions = {}): Promise<this> {
    checkKeys(options, ['timeoutMs', 'signal']);
    checkTimeout(options.timeoutMs);
    if (performance.now() - this.#createdAtMs < FRESH_MS) return this;
    const { awake, head } = currentRuntime();
    await awake.during(limited(head.ask({ awaitGroup: { groupId: this.id } }), options));
    return this;
  }

  /** Where it lies, or why it waits. */
  async info(): Promise<PlacementGroupInfo> {
    const reply = await currentRuntime().head.request({ getGroup: { groupId: this.id } });
    const { state, strategy, bundles, reason } = reply.group ?? {};
    return {
      state: (state ?? 'PENDING') as PlacementGroupInfo['state'],
      strategy: (strategy ?? 'PACK') as PlacementGroupStrategy,
      bundles: (bundles ?? []).map((bundle) => ({
        resources: { ...bundle.resources?.amounts },
        nodeId: (bundle.nodeId as NodeId) || null,
      })),
      reason: reason ?? '',
    };
  }

  /** Gives its resources back and ends the actors and tasks in it. Safe to repeat. */
  async remove(): Promise<void> {
    this.#createdAtMs = Number.NEGATIVE_INFINITY;
    await currentRuntime().head.request({ removeGroup: { groupId: this.id } });
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.remove();
  }
}

/**
 * Asks for resources that are set aside together, all bundles or none. Resolves when the cluster has accepted the group; wait
 * for its `ready()`, or start work in it, which waits by itself. Rejects with InfeasibleError when the nodes could never hold
 * it, ConfigError when its name is taken. It ends with the process that made it, unless it is detached.
 */
export async function placementGroup(options: PlacementGroupOptions): Promise<PlacementGroup> {
  checkOptions(options);
  const groupId = newGroupId();
  const runtime = currentRuntime();
  const { group } = await runtime.head.request({
    createGroup: {
      groupId,
      name: options.name ?? '',
      namespace: options.namespace ?? runtime.namespace,
      isDetached: options.lifetime === 'detached',
      strategy: options.strategy ?? 'PACK',
      domain: options.topologyDomain ?? '',
      bundles: options.bundles.map((bundle) => ({
        resources: { amounts: resourcesOf(bundle, 0) },
        labelSelector: { ...bundle.labels },
      })),
      waitsIfInfeasible: options.infeasible === 'wait',
    },
  });
  return new PlacementGroup(groupId, options.bundles.length, group?.state === 'CREATED');
}

/** The placement group of that name. Rejects with ConfigError when there is none. */
export async function getPlacementGroup(
  name: string,
  options: { readonly namespace?: string } = {},
): Promise<PlacementGroup> {
  checkKeys(options, ['namespace']);
  const runtime = currentRuntime();
  const reply = await runtime.head.request({ getGroup: { name, namespace: options.namespace ?? runtime.namespace } });
  return handleOf(reply.group ?? {});
}

/** The placement group that this code runs in; null when in none. */
export async function currentPlacementGroup(): Promise<PlacementGroup | null> {
  const { bundle, head } = currentRuntime();
  if (!bundle) return null;
  return handleOf((await head.request({ getGroup: { groupId: bundle.groupId } })).group ?? {});
}

const handleOf = (info: wire.GroupInfo.$Properties): PlacementGroup =>
  new PlacementGroup(info.groupId ?? '', info.bundles?.length ?? 0);

const KEYS = ['bundles', 'strategy', 'topologyDomain', 'name', 'namespace', 'lifetime', 'infeasible'];

function checkOptions(options: PlacementGroupOptions): void {
  checkKeys(options, KEYS);
  const { bundles, strategy, lifetime, infeasible } = options;
  if (!Array.isArray(bundles) || bundles.length === 0) throw new ConfigError('bundles', 'a list of bundles', bundles);
  for (const [index, bundle] of bundles.entries()) {
    checkBundle(`bundles[${index}]`, bundle);
    if (Object.values(resourcesOf(bundle, 0)).every((amount) => amount === 0))
      throw new ConfigError(`bundles[${index}]`, 'some resources', bundle, 'For example { cpus: 1 }');
  }
  if (strategy !== undefined && !STRATEGIES.includes(strategy))
    throw new ConfigError('strategy', `one of ${STRATEGIES.join(', ')}`, strategy);
  for (const key of ['name', 'namespace', 'topologyDomain'] as const) {
    const value = options[key];
    if (value !== undefined && (typeof value !== 'string' || value === '')) throw new ConfigError(key, 'a name', value);
  }
  if (lifetime !== undefined && lifetime !== 'detached') throw new ConfigError('lifetime', '"detached"', lifetime);
  if (infeasible !== undefined && infeasible !== 'refuse' && infeasible !== 'wait')
    throw new ConfigError('infeasible', '"refuse" or "wait"', infeasible);
}
