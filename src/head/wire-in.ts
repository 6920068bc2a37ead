// What arrives on the wire, decoded once into the types that the rules use. Refuses what makes no sense, by field.
import {
  type ActorId,
  ConfigError,
  type GroupId,
  type JobId,
  type LeaseId,
  type NodeId,
  type Resources,
  type WorkerId,
} from '../common/index.js';
import { wire } from '../protocol/index.js';
import type {
  ActorRequest,
  Address,
  DrainOrder,
  GroupRequest,
  LeaseRequest,
  NodeBeat,
  NodeFacts,
  RuntimeEnv,
} from './entities.js';
import type { RunningWorker } from './node-state.js';
import { isLabelRule } from './scheduler/labels.js';
import { type Demand, demandFor, isStrategy } from './scheduler/place.js';
import { GROUP_STRATEGIES, type GroupStrategy } from './scheduler/place-bundles.js';

/** More of one resource than any machine has; keeps sums exact. */
const AMOUNT_MAX = 2 ** 53 / 10_000;

/** Amounts as asked or offered. Throws {@link ConfigError} for what is no amount. */
export function resourcesIn(message: wire.Resources.$Properties | null | undefined, path: string): Resources {
  const amounts: Record<string, number> = {};
  for (const [name, amount] of Object.entries(message?.amounts ?? {})) {
    if (!Number.isFinite(amount) || amount < 0 || amount > AMOUNT_MAX) {
      throw new ConfigError(`${path}.${name}`, 'an amount of 0 or more', amount);
    }
    if (name === '' || name === '__proto__') throw new ConfigError(path, 'names of resources', name);
    amounts[name] = amount;
  }
  return amounts;
}

/** A map<string, string> without names that JavaScript gives a meaning. */
export const textMap = (map: Readonly<Record<string, string>> | null | undefined): Record<string, string> =>
  Object.fromEntries(Object.entries(map ?? {}).filter(([key]) => key !== '__proto__'));

function selectorIn(map: Readonly<Record<string, string>> | null | undefined, path: string): Record<string, string> {
  const selector = textMap(map);
  for (const [key, rule] of Object.entries(selector))
    if (!isLabelRule(rule))
      throw new ConfigError(`${path}.${key}`, 'v, !v, in(a,b), !in(a,b), exists() or !exists()', rule);
  return selector;
}

export const addressIn = (message: wire.WorkerAddress.$Properties | null | undefined): Address => ({
  workerId: message?.workerId ?? '',
  nodeId: message?.nodeId ?? '',
  uds: message?.uds ?? '',
  tcp: message?.tcp ?? '',
});

const runtimeEnvIn = (message: wire.RuntimeEnv.$Properties | null | undefined): RuntimeEnv => ({
  package: message?.package ?? '',
  envVars: textMap(message?.envVars),
  ...(message?.setup && {
    setup: {
      module: message.setup.module ?? '',
      name: message.setup.name ?? '',
      package: message.setup.package ?? '',
    },
  }),
  ...(message?.npm && {
    npm: { packageJson: message.npm.packageJson ?? '', lockfile: message.npm.lockfile ?? '' },
  }),
});

/** Ray's rule: an actor that declares nothing needs one CPU to be placed (a task that does, none). */
const DEFAULT_NEEDS: Resources = { CPU: 1 };

function demandIn(
  message: {
    readonly resources?: wire.Resources.$Properties | null;
    readonly labelSelector?: Record<string, string> | null;
    readonly schedulingStrategy?: string | null;
    readonly fallbackSelectors?: readonly wire.LabelSelector.$Properties[] | null;
    readonly bundle?: wire.BundleWish.$Properties | null;
  },
  locality: readonly string[],
): { readonly demand: Demand; readonly declared: Resources } {
  const declared = resourcesIn(message.resources, 'resources');
  const strategy = message.schedulingStrategy || 'DEFAULT';
  if (!isStrategy(strategy)) {
    throw new ConfigError('schedulingStrategy', '"DEFAULT", "SPREAD", "node:<id>" or "prefer:<id>"', strategy);
  }
  const { bundle } = message;
  if (bundle) {
    const wish = { groupId: bundle.groupId ?? '', index: bundle.index ?? 0 };
    return { demand: demandFor({ needs: declared, selector: {}, strategy, locality: [], bundle: wish }), declared };
  }
  const needs = Object.keys(declared).length === 0 ? DEFAULT_NEEDS : declared;
  const selector = selectorIn(message.labelSelector, 'labels');
  const fallbacks = (message.fallbackSelectors ?? []).map((each, index) =>
    selectorIn(each.labels, `fallbackLabels[${index}]`),
  );
  const asked = { needs, selector, fallbacks, strategy, locality: locality as readonly NodeId[] };
  return { demand: demandFor(asked), declared };
}

/** @param from the client that asks, and owns the actor */
export function actorIn(
  spec: wire.ActorSpec,
  from: { readonly workerId: WorkerId; readonly jobId: JobId },
): ActorRequest {
  if (spec.actorId === '') throw new ConfigError('actor.actorId', 'an id', spec.actorId);
  const { demand, declared } = demandIn(spec, []);
  return {
    actorId: spec.actorId as ActorId,
    className: spec.className || spec.code?.name || 'actor',
    code: {
      module: spec.code?.module ?? '',
      name: spec.code?.name ?? '',
      package: spec.code?.package ?? '',
    },
    name: spec.name,
    namespace: spec.namespace || 'default',
    jobId: from.jobId,
    ownerId: from.workerId,
    isDetached: spec.isDetached,
    maxRestarts: Math.max(-1, spec.maxRestarts),
    waitsIfInfeasible: spec.waitsIfInfeasible,
    demand,
    holds: declared,
    payload: wire.ActorSpec.encode(spec).finish(),
    handle: Uint8Array.from(spec.handle), // what arrived is a view of its frame
    getOrCreate: spec.getOrCreate,
  };
}

export function leaseIn(message: wire.RequestLease, ownerId: WorkerId): LeaseRequest {
  if (message.leaseId === '') throw new ConfigError('lease.leaseId', 'an id', message.leaseId);
  const { demand, declared } = demandIn(message, message.locality);
  return {
    leaseId: message.leaseId as LeaseId,
    ownerId,
    jobId: message.jobId as JobId,
    demand: demandFor({ ...demand, needs: declared }), // a task says its cores; with none it may run beside full actors
    runtimeEnv: runtimeEnvIn(message.runtimeEnv),
    waitsIfInfeasible: message.waitsIfInfeasible,
    priority: message.priority,
    capturesChildren: message.bundle?.capturesChildren ?? false,
    isRetriable: message.isRetriable,
  };
}

/** Bundles of one group, at most. */
const BUNDLES_MAX = 10_000;

export function groupIn(
  spec: wire.GroupSpec.$Properties,
  from: { readonly workerId: WorkerId; readonly jobId: JobId; readonly namespace: string },
): GroupRequest {
  const { groupId } = spec;
  const strategy = spec.strategy ?? '';
  const bundles = spec.bundles ?? [];
  if (!groupId) throw new ConfigError('group.groupId', 'an id', groupId);
  if (!(GROUP_STRATEGIES as readonly string[]).includes(strategy))
    throw new ConfigError('strategy', `one of ${GROUP_STRATEGIES.join(', ')}`, strategy);
  if (bundles.length === 0 || bundles.length > BUNDLES_MAX)
    throw new ConfigError('bundles', `1 to ${BUNDLES_MAX} bundles`, bundles.length);
  return {
    groupId: groupId as GroupId,
    name: spec.name ?? '',
    namespace: spec.namespace || from.namespace,
    jobId: from.jobId,
    ownerId: from.workerId,
    isDetached: spec.isDetached ?? false,
    waitsIfInfeasible: spec.waitsIfInfeasible ?? false,
    strategy: strategy as GroupStrategy,
    domain: spec.domain ?? '',
    bundles: bundles.map((bundle, index) => ({
      needs: resourcesIn(bundle.resources, `bundles[${index}]`),
      selector: selectorIn(bundle.labelSelector, `bundles[${index}].labels`),
    })),
  };
}

export function nodeIn(hello: wire.NodeHello): {
  readonly facts: NodeFacts;
  readonly workers: readonly RunningWorker[];
  readonly jobs: readonly JobId[];
} {
  if (hello.nodeId === '') throw new ConfigError('node.nodeId', 'an id', hello.nodeId);
  return {
    facts: {
      nodeId: hello.nodeId as NodeId,
      host: hello.host,
      hostname: hello.hostname,
      total: resourcesIn(hello.total, 'node.total'),
      labels: textMap(hello.labels),
      transfer: hello.transfer,
      uds: hello.uds,
      pid: hello.pid,
      version: hello.version,
      isHead: hello.isHead,
    },
    workers: hello.workers.map((worker) => {
      const address = addressIn(worker.address);
      return {
        workerId: address.workerId as WorkerId,
        actorId: (worker.actorId as ActorId) || null,
        leaseId: (worker.leaseId as LeaseId) || null,
        address: address.uds === '' && address.tcp === '' ? null : address,
        pid: worker.pid ?? 0,
        gpus: worker.gpus ?? [],
      };
    }),
    jobs: hello.runningJobs as JobId[],
  };
}

const DRAIN_REASONS = ['idle-termination', 'preemption'] as const;

/** The order that a node leave, from `nowMs` on. Throws {@link ConfigError}. */
export function drainIn({ reason, message, remainingMs }: wire.Drain.$Properties, nowMs: number): DrainOrder {
  const known = DRAIN_REASONS.find((each) => each === reason);
  if (!known) throw new ConfigError('reason', `one of ${DRAIN_REASONS.join(', ')}`, reason);
  const deadlineAtMs = remainingMs == null ? null : nowMs + remainingMs;
  return { reason: known, message: message ?? '', deadlineAtMs };
}

export const beatIn = (beat: wire.NodeBeat.$Properties): NodeBeat => ({
  cpuPercent: beat.cpuPercent ?? 0,
  memoryUsedBytes: beat.memoryUsedBytes ?? 0,
  memoryTotalBytes: beat.memoryTotalBytes ?? 0,
  storeUsedBytes: beat.storeUsedBytes ?? 0,
  storeTotalBytes: beat.storeTotalBytes ?? 0,
  workerCount: beat.workerCount ?? 0,
  keptForOthers: beat.keptForOthers ?? null,
  workers: (beat.workers ?? []).map((worker) => ({
    workerId: worker.workerId ?? '',
    pid: worker.pid ?? 0,
    name: worker.name ?? '',
    actorId: worker.actorId ?? '',
    jobId: worker.jobId ?? '',
    cpuPercent: worker.cpuPercent ?? 0,
    memoryBytes: worker.memoryBytes ?? 0,
    running: worker.running ?? [],
    startedAtMs: worker.startedMs ?? 0,
  })),
  gpus: (beat.gpus ?? []).map((gpu) => ({
    device: gpu.device ?? 0,
    id: gpu.id ?? '',
    name: gpu.name ?? '',
    memoryUsedBytes: gpu.memoryUsedBytes ?? 0,
    memoryTotalBytes: gpu.memoryTotalBytes ?? 0,
    busyPercent: gpu.busyPercent ?? -1,
    fault: gpu.fault ?? '',
  })),
});
