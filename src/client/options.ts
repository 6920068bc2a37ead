// Options of actors and tasks: what users write, checked, and what goes on the wire.
import { ConfigError, isDeviceAmount } from '../common/index.js';
import type { wire } from '../protocol/index.js';
import { checkRetryOn, type RetryOn } from './retry-rules.js';
import { checkRuntimeEnv, type WorkEnvOptions } from './runtime-env.js';

/**
 * Where a worker may be placed. DEFAULT fills nodes one after the other up to half of each, then takes the least used. SPREAD
 * evens out. `node:<id>`: that node and no other. `prefer:<id>`: that node while it has room, else as DEFAULT.
 */
export type SchedulingStrategy = 'DEFAULT' | 'SPREAD' | `node:${string}` | `prefer:${string}`;

/** What a worker is given to run a task or actor. */
export interface ResourceOptions {
  /** CPU cores to reserve. Actors: 0 unless given; tasks: 1. Fractions are allowed. */
  readonly cpus?: number;
  /** GPUs to reserve, a part of one (0.25) or whole ones; the worker sees them in CUDA_VISIBLE_DEVICES. */
  readonly gpus?: number;
  /** Bytes of memory to reserve. */
  readonly memory?: number;
  /** Custom resources by name. */
  readonly resources?: Readonly<Record<string, number>>;
}

/** Which bundle of a placement group to run in. */
export interface BundleChoice {
  readonly group: { readonly id: string; readonly bundleCount: number };
  /** Default: any bundle that has room. */
  readonly bundleIndex?: number;
  /** Tasks and actors that it starts run in the group too, unless they say where. Default false. */
  readonly captureChildTasks?: boolean;
}

/** On which nodes a task or actor may run. */
export interface PlacementOptions extends ResourceOptions {
  /** Labels that the node must have: 'v', '!v', 'in(a,b)', '!in(a,b)', 'exists()' or '!exists()'. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Labels to do with, in this order, where no node of `labels` has room. */
  readonly fallbackLabels?: readonly Readonly<Record<string, string>>[];
  readonly schedulingStrategy?: SchedulingStrategy;
  /** Runs in a placement group. `null`: in none, also where what starts it captures its children. */
  readonly placementGroup?: BundleChoice | null;
  /** What its worker finds when it begins. */
  readonly runtimeEnv?: WorkEnvOptions;
  /** What to do when no node of the cluster could ever hold it: InfeasibleError at once (default), or wait for a node that can. */
  readonly infeasible?: 'refuse' | 'wait';
}

/** Options of one call of an actor's method. */
export interface CallOptions {
  /** The group of {@link ActorOptions.concurrencyGroups} whose calls it counts among. */
  readonly concurrencyGroup?: string;
  readonly maxTaskRetries?: number;
  /** So many refs of a method that returns a list of as many values; 'streaming': the items of an iterable as they come. */
  readonly numReturns?: number | 'streaming';
  /** Of a generator: items that it may make beyond those that were taken. Default: any number. */
  readonly generatorBackpressure?: number;
}

/** Names of the methods of a class. */
type MethodName<Actor> = {
  [Name in keyof Actor]: Actor[Name] extends (...args: never[]) => unknown ? Name : never;
}[keyof Actor];

/** How an actor is created, placed, called and restarted. Names and defaults are Ray's. */
export interface ActorOptions<Actor = unknown> extends PlacementOptions {
  /** Unique among the live actors of the namespace; others find it with `getActor`. */
  readonly name?: string;
  readonly namespace?: string;
  /** How often its process is started again after a crash; -1: always. Default 0. */
  readonly maxRestarts?: number;
  /** How often a call that was lost with the process is made again; -1: always. Default 0: at most once. */
  readonly maxTaskRetries?: number;
  /** Errors of user code after which a call is made again, as often as `maxTaskRetries` allows. */
  readonly retryOn?: RetryOn;
  /** Calls that may run at a time. Default 1. */
  readonly maxConcurrency?: number;
  /** Groups of calls by name, each with how many of its calls may run at a time, whatever runs in other groups. */
  readonly concurrencyGroups?: Readonly<Record<string, number>>;
  /** Calls of this process that may wait for an answer; one more is refused with PendingCallsLimitError. Default: any number. */
  readonly maxPendingCalls?: number;
  /** Options of all calls of a method. */
  readonly methods?: { readonly [Name in MethodName<Actor>]?: CallOptions & { readonly retryOn?: RetryOn } };
  /** With a name: gives the live actor of that name, if there is one. */
  readonly getOrCreate?: boolean;
  /** 'detached': outlives its creator, until `kill`. */
  readonly lifetime?: 'detached';
}

/** Of all calls of one function. Checked when `task()` is called; a wrong one throws ConfigError with its name. */
export interface TaskOptions extends PlacementOptions {
  /** How often the task runs again when its worker crashed; -1: always. Default 3. */
  readonly maxRetries?: number;
  /** Errors that it throws after which it runs again, as often as `maxRetries` allows. Default: none. */
  readonly retryOn?: RetryOn;
  /** So many refs of a function that returns a list of as many values; 'streaming': the items of an iterable as they come. */
  readonly numReturns?: number | 'streaming';
  /** Of a generator: items that it may make beyond those that were taken. Default: any number. */
  readonly generatorBackpressure?: number;
  /** Among tasks that wait, those of a larger number go first. Default 0. */
  readonly priority?: number;
}

const RESOURCES = ['cpus', 'gpus', 'memory', 'resources'];
const PLACEMENT = [
  ...RESOURCES,
  'labels',
  'fallbackLabels',
  'schedulingStrategy',
  'placementGroup',
  'infeasible',
  'runtimeEnv',
];
const ACTOR = [
  ...PLACEMENT,
  'name',
  'namespace',
  'getOrCreate',
  'maxRestarts',
  'maxTaskRetries',
  'retryOn',
  'maxConcurrency',
  'concurrencyGroups',
  'maxPendingCalls',
  'methods',
  'lifetime',
];
const CALL = ['concurrencyGroup', 'maxTaskRetries', 'numReturns', 'generatorBackpressure'];
const TASK = [...PLACEMENT, 'maxRetries', 'retryOn', 'numReturns', 'generatorBackpressure', 'priority'];
const RESERVED = ['CPU', 'GPU', 'memory']; // have options of their own

/** @param methods of the class, by name */
export function checkActorOptions(options: ActorOptions, methods: ReadonlyMap<string, unknown>): void {
  checkPlacement(options, ACTOR);
  for (const key of ['name', 'namespace'] as const) {
    const value = options[key];
    if (value !== undefined && (typeof value !== 'string' || value === '')) throw new ConfigError(key, 'a name', value);
  }
  retries('maxRestarts', options.maxRestarts);
  retries('maxTaskRetries', options.maxTaskRetries);
  const { maxConcurrency, maxPendingCalls, concurrencyGroups = {}, lifetime, getOrCreate } = options;
  positive('maxConcurrency', maxConcurrency);
  positive('maxPendingCalls', maxPendingCalls);
  for (const [name, count] of Object.entries(concurrencyGroups)) positive(`concurrencyGroups.${name}`, count);
  checkRetryOn('retryOn', options.retryOn);
  if (getOrCreate !== undefined && typeof getOrCreate !== 'boolean')
    throw new ConfigError('getOrCreate', 'true or false', getOrCreate);
  if (getOrCreate && options.name === undefined)
    throw new ConfigError('name', 'a name', undefined, 'getOrCreate looks for it');
  for (const [name, given] of Object.entries(options.methods ?? {}) as [string, CallOptions & ActorOptions][]) {
    if (!methods.has(name)) throw new ConfigError(`methods.${name}`, 'the name of a method', name);
    const { retryOn, ...call } = given;
    checkRetryOn(`methods.${name}.retryOn`, retryOn);
    checkCallOptions(`methods.${name}`, call);
    const group = call.concurrencyGroup;
    if (group !== undefined && !Object.hasOwn(concurrencyGroups, group))
      throw new ConfigError(`methods.${name}.concurrencyGroup`, 'one of concurrencyGroups', group);
  }
  if (lifetime !== undefined && lifetime !== 'detached') throw new ConfigError('lifetime', '"detached"', lifetime);
}

export function checkTaskOptions(options: TaskOptions): void {
  checkPlacement(options, TASK);
  retries('maxRetries', options.maxRetries);
  checkRetryOn('retryOn', options.retryOn);
  checkReturns('', options);
  const { priority } = options;
  if (priority !== undefined && !(Number.isInteger(priority) && Math.abs(priority) < 2 ** 31))
    throw new ConfigError('priority', 'an integer of 32 bits', priority);
}

/** @param path of the method, for messages */
export function checkCallOptions(path: string, options: CallOptions): void {
  checkKeys(options, CALL);
  retries(`${path}.maxTaskRetries`, options.maxTaskRetries);
  checkReturns(`${path}.`, options);
  const group = options.concurrencyGroup;
  if (group !== undefined && typeof group !== 'string')
    throw new ConfigError(`${path}.concurrencyGroup`, 'the name of a group', group);
}

function checkReturns(path: string, { numReturns, generatorBackpressure }: CallOptions): void {
  if (numReturns !== 'streaming') positive(`${path}numReturns`, numReturns);
  positive(`${path}generatorBackpressure`, generatorBackpressure);
}

const positive = (path: string, value: number | undefined): void => {
  if (value !== undefined && !(Number.isInteger(value) && value > 0))
    throw new ConfigError(path, 'a positive integer', value);
};

/** Refuses options that there are not: a misspelt one must not be ignored. */
export function checkKeys(options: object, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null) throw new ConfigError('options', 'an object', options);
  for (const key of Object.keys(options))
    if (!known.includes(key)) throw new ConfigError(key, `one of ${known.join(', ')}`, key, 'There is no such option');
}

/** Milliseconds to wait, where given. */
export function checkTimeout(timeoutMs: number | undefined): void {
  if (timeoutMs !== undefined && !(typeof timeoutMs === 'number' && timeoutMs >= 0))
    throw new ConfigError('timeoutMs', 'a number of milliseconds of at least 0', timeoutMs);
}

function checkPlacement(options: PlacementOptions, known: readonly string[]): void {
  checkKeys(options, known);
  checkRuntimeEnv(options.runtimeEnv);
  checkNeeds('', options);
  const { fallbackLabels = [] } = options;
  if (!Array.isArray(fallbackLabels)) throw new ConfigError('fallbackLabels', 'a list of labels', fallbackLabels);
  for (const [index, labels] of fallbackLabels.entries()) checkNeeds(`fallbackLabels[${index}].`, { labels });
  if (fallbackLabels.length > 0 && Object.keys(options.labels ?? {}).length === 0)
    throw new ConfigError(
      'labels',
      'labels',
      options.labels,
      'fallbackLabels are for where no node of labels has room',
    );
  checkBundleChoice(options);
  const { schedulingStrategy: strategy, infeasible } = options;
  if (infeasible !== undefined && infeasible !== 'refuse' && infeasible !== 'wait')
    throw new ConfigError('infeasible', '"refuse" or "wait"', infeasible);
  if (strategy !== undefined && !/^(DEFAULT|SPREAD|(node|prefer):.+)$/.test(strategy))
    throw new ConfigError('schedulingStrategy', '"DEFAULT", "SPREAD", "node:<id>" or "prefer:<id>"', strategy);
}

/** @param path of the bundle, for messages */
export function checkBundle(path: string, bundle: ResourceOptions): void {
  checkKeys(bundle, [...RESOURCES, 'labels']);
  checkNeeds(`${path}.`, bundle);
}

function checkBundleChoice({ placementGroup: choice, labels, schedulingStrategy }: PlacementOptions): void {
  if (choice === undefined || choice === null) return;
  checkKeys(choice, ['group', 'bundleIndex', 'captureChildTasks']);
  const { group, bundleIndex, captureChildTasks } = choice;
  if (typeof group?.id !== 'string') throw new ConfigError('placementGroup.group', 'a placement group', group);
  const isIndex = Number.isInteger(bundleIndex) && bundleIndex! >= 0 && bundleIndex! < group.bundleCount;
  if (bundleIndex !== undefined && !isIndex)
    throw new ConfigError('placementGroup.bundleIndex', `an index of 0 to ${group.bundleCount - 1}`, bundleIndex);
  if (captureChildTasks !== undefined && typeof captureChildTasks !== 'boolean')
    throw new ConfigError('placementGroup.captureChildTasks', 'true or false', captureChildTasks);
  for (const [name, value] of Object.entries({ labels, schedulingStrategy }))
    if (value !== undefined)
      throw new ConfigError(name, 'nothing beside placementGroup', value, 'The group says where its bundles lie');
}

function checkNeeds(
  path: string,
  options: ResourceOptions & { readonly labels?: Readonly<Record<string, string>> },
): void {
  const { cpus, gpus, memory, resources = {}, labels = {} } = options;
  for (const [name, value] of Object.entries({ resources, labels }))
    if (typeof value !== 'object' || value === null) throw new ConfigError(`${path}${name}`, 'an object', value);
  for (const name of RESERVED)
    if (name in resources)
      throw new ConfigError(
        `${path}resources.${name}`,
        'the name of a custom resource',
        name,
        'Use cpus, gpus and memory',
      );
  const custom = Object.entries(resources).map(([name, amount]) => [`resources.${name}`, amount] as const);
  for (const [name, amount] of [...Object.entries({ cpus, gpus, memory }), ...custom])
    if (amount !== undefined && !(Number.isFinite(amount) && amount >= 0))
      throw new ConfigError(`${path}${name}`, 'a number of at least 0', amount);
  if (gpus !== undefined && !isDeviceAmount(gpus))
    throw new ConfigError(`${path}gpus`, 'a part of one GPU (at most 1) or a whole number of them', gpus);
  for (const [name, value] of Object.entries(labels))
    if (typeof value !== 'string') throw new ConfigError(`${path}labels.${name}`, 'a text', value);
}

const retries = (name: string, value: number | undefined): void => {
  if (value !== undefined && !(Number.isInteger(value) && value >= -1))
    throw new ConfigError(name, 'an integer of at least 0, or -1 for no limit', value);
};

/** The resources that the options ask for. */
export function resourcesOf(options: ResourceOptions, defaultCpus: number): Record<string, number> {
  const resources: Record<string, number> = { ...options.resources };
  const cpus = options.cpus ?? defaultCpus;
  if (cpus !== 0) resources.CPU = cpus;
  if (options.gpus) resources.GPU = options.gpus;
  if (options.memory) resources.memory = options.memory;
  return resources;
}

/** The bundle that the options ask for, or the group of the code that asks, if that captures what it starts. */
export function bundleOf(
  options: PlacementOptions,
  current: wire.BundleWish.$Properties | null,
): wire.BundleWish.$Properties | null {
  const { placementGroup: choice, labels, schedulingStrategy } = options;
  if (choice) {
    const { group, bundleIndex = -1, captureChildTasks = false } = choice;
    return { groupId: group.id, index: bundleIndex, capturesChildren: captureChildTasks };
  }
  const isFree = choice === undefined && labels === undefined && schedulingStrategy === undefined;
  return isFree && current?.capturesChildren
    ? { groupId: current.groupId ?? '', index: -1, capturesChildren: true }
    : null;
}
