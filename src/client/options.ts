// Options of actors and tasks: what users write, checked, and what goes on the wire.
import { ConfigError } from '../common/index.js';

/** Where a worker may be placed. */
export type SchedulingStrategy = 'DEFAULT' | 'SPREAD' | `node:${string}`;

export interface PlacementOptions {
  /** CPU cores to reserve. Actors: 0 unless given; tasks: 1. Fractions are allowed. */
  readonly cpus?: number;
  /** GPUs to reserve; the worker sees them in CUDA_VISIBLE_DEVICES. */
  readonly gpus?: number;
  /** Bytes of memory to reserve. */
  readonly memory?: number;
  /** Custom resources by name. */
  readonly resources?: Readonly<Record<string, number>>;
  /** Labels that the node must have. */
  readonly labels?: Readonly<Record<string, string>>;
  readonly schedulingStrategy?: SchedulingStrategy;
  /** What to do when no node of the cluster could ever hold it: InfeasibleError at once (default), or wait for a node that can. */
  readonly infeasible?: 'refuse' | 'wait';
}

export interface ActorOptions extends PlacementOptions {
  /** Unique among the live actors of the namespace; others find it with `getActor`. */
  readonly name?: string;
  readonly namespace?: string;
  /** How often its process is started again after a crash; -1: always. Default 0. */
  readonly maxRestarts?: number;
  /** How often a call that was lost with the process is made again; -1: always. Default 0: at most once. */
  readonly maxTaskRetries?: number;
  /** Calls that may run at a time. Default 1. */
  readonly maxConcurrency?: number;
  /** 'detached': outlives its creator, until `kill`. */
  readonly lifetime?: 'detached';
}

export interface TaskOptions extends PlacementOptions {
  /** How often the task runs again when its worker crashed; -1: always. Default 3. Errors it throws are not retried. */
  readonly maxRetries?: number;
}

const PLACEMENT = ['cpus', 'gpus', 'memory', 'resources', 'labels', 'schedulingStrategy', 'infeasible'];
const ACTOR = [...PLACEMENT, 'name', 'namespace', 'maxRestarts', 'maxTaskRetries', 'maxConcurrency', 'lifetime'];
const TASK = [...PLACEMENT, 'maxRetries'];
const RESERVED = ['CPU', 'GPU', 'memory']; // have options of their own

export function checkActorOptions(options: ActorOptions): void {
  checkPlacement(options, ACTOR);
  for (const key of ['name', 'namespace'] as const) {
    const value = options[key];
    if (value !== undefined && (typeof value !== 'string' || value === '')) throw new ConfigError(key, 'a name', value);
  }
  retries('maxRestarts', options.maxRestarts);
  retries('maxTaskRetries', options.maxTaskRetries);
  const { maxConcurrency, lifetime } = options;
  if (maxConcurrency !== undefined && !(Number.isInteger(maxConcurrency) && maxConcurrency > 0))
    throw new ConfigError('maxConcurrency', 'a positive integer', maxConcurrency);
  if (lifetime !== undefined && lifetime !== 'detached') throw new ConfigError('lifetime', '"detached"', lifetime);
}

export function checkTaskOptions(options: TaskOptions): void {
  checkPlacement(options, TASK);
  retries('maxRetries', options.maxRetries);
}

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
  const { cpus, gpus, memory, resources = {}, labels = {} } = options;
  for (const [name, value] of Object.entries({ resources, labels }))
    if (typeof value !== 'object' || value === null) throw new ConfigError(name, 'an object', value);
  for (const name of RESERVED)
    if (name in resources)
      throw new ConfigError(`resources.${name}`, 'the name of a custom resource', name, 'Use cpus, gpus and memory');
  const custom = Object.entries(resources).map(([name, amount]) => [`resources.${name}`, amount] as const);
  for (const [name, amount] of [...Object.entries({ cpus, gpus, memory }), ...custom])
    if (amount !== undefined && !(Number.isFinite(amount) && amount >= 0))
      throw new ConfigError(name, 'a number of at least 0', amount);
  for (const [name, value] of Object.entries(labels))
    if (typeof value !== 'string') throw new ConfigError(`labels.${name}`, 'a text', value);
  const { schedulingStrategy: strategy, infeasible } = options;
  if (infeasible !== undefined && infeasible !== 'refuse' && infeasible !== 'wait')
    throw new ConfigError('infeasible', '"refuse" or "wait"', infeasible);
  if (strategy !== undefined && !/^(DEFAULT|SPREAD|node:.+)$/.test(strategy))
    throw new ConfigError('schedulingStrategy', '"DEFAULT", "SPREAD" or "node:<id>"', strategy);
}

const retries = (name: string, value: number | undefined): void => {
  if (value !== undefined && !(Number.isInteger(value) && value >= -1))
    throw new ConfigError(name, 'an integer of at least 0, or -1 for no limit', value);
};

/** The resources that the options ask for. */
export function resourcesOf(options: PlacementOptions, defaultCpus: number): Record<string, number> {
  const resources: Record<string, number> = { ...options.resources };
  const cpus = options.cpus ?? defaultCpus;
  if (cpus !== 0) resources.CPU = cpus;
  if (options.gpus) resources.GPU = options.gpus;
  if (options.memory) resources.memory = options.memory;
  return resources;
}
