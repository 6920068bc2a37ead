// Tasks as users see them: `task(fn, options)(...args)` gives a ref at once.
import { ConfigError, type RayliteError } from '../common/index.js';
import type { wire } from '../protocol/index.js';
import { type Code, codeRefOf } from './code-ref.js';
import { currentRuntime } from './current.js';
import type { CallShape, Invocation } from './invocation.js';
import { startCall } from './invoke.js';
import { nodeOfMostBytes } from './locality.js';
import { bundleOf, checkTaskOptions, resourcesOf, type TaskOptions } from './options.js';
import { packageFolders } from './package-folders.js';
import { namesOf } from './retry-rules.js';
import { type Overloaded, returnsOf, type Start, type Starts } from './returns.js';
import type { Runtime } from './runtime.js';
import { envKeyOf, runtimeEnvWith } from './runtime-env.js';
import { TaskPool } from './task-pool.js';

const MAX_RETRIES = 3; // of a task whose worker crashed, as in Ray

type Run<Args extends readonly unknown[], Result> = (...args: Args extends unknown[] ? Args : never) => Result;

/**
 * Runs an exported function on a worker of the cluster: `await task(square)(3)`. Its errors come as TaskError. A generator
 * function gives an ObjectRefGenerator of its items; `numReturns: k` gives k refs of a function that returns a list of k.
 */
export function task<Args extends readonly unknown[], Result>(
  run: Run<Args, Result>,
  options: TaskOptions & { readonly numReturns: 'streaming' },
): Start<Args, Result, 'items'>;
export function task<Args extends readonly unknown[], Result>(
  run: Run<Args, Result>,
  options: TaskOptions & { readonly numReturns: number },
): Start<Args, Result, 'parts'>;
export function task<Fn>(
  run: Fn & Overloaded<Fn>,
  options?: TaskOptions & { readonly numReturns?: undefined },
): Starts<Fn>;
export function task<Args extends readonly unknown[], Result>(
  run: Run<Args, Result>,
  options?: TaskOptions,
): Start<Args, Result>;
export function task(run: Code, options: TaskOptions = {}): (...args: unknown[]) => unknown {
  if (typeof run !== 'function') throw new ConfigError('task', 'a function', run);
  if (/^class\b/.test(Function.prototype.toString.call(run)))
    throw new ConfigError('task', 'a function', run, `${run.name} is a class: use actor(${run.name}).create()`);
  checkTaskOptions(options);
  const shape: CallShape = {
    name: run.name || 'task',
    method: undefined,
    code: undefined,
    retries: options.maxRetries ?? MAX_RETRIES,
    retryOn: undefined,
    returns: returnsOf(run, options.numReturns),
    aheadMax: options.generatorBackpressure ?? 0,
    group: undefined,
    priority: options.priority ?? 0,
  };
  const mayFollow = (options.schedulingStrategy ?? 'DEFAULT') === 'DEFAULT' && !options.placementGroup;
  let located: { readonly by: Runtime; readonly done: Promise<void>; pool: TaskPool; isReady: boolean } | null = null;
  let env: wire.RuntimeEnv.$Properties | null = null;
  const send = (pool: TaskPool, invocation: Invocation): void => {
    if (env && options.runtimeEnv) pool.demand.runtimeEnv = env;
    pool.send(invocation);
  };
  const locate = async (runtime: Runtime): Promise<void> => {
    const packages = packageFolders(runtime);
    shape.code = await codeRefOf(run, packages);
    shape.retryOn = await namesOf(options.retryOn, packages);
    env = await runtimeEnvWith(runtime.runtimeEnv, options.runtimeEnv, packages);
    if (located) located.isReady = true;
  };
  const start = (...args: unknown[]): unknown => {
    const runtime = currentRuntime();
    if (located?.by !== runtime)
      located = { by: runtime, done: locate(runtime), pool: poolOf(runtime, options, null), isReady: false };
    const { done, isReady } = located;
    const holder = mayFollow ? nodeOfMostBytes(args) : null;
    const isHere = holder === null || holder === runtime.nodeId;
    const pool = isHere ? located.pool : poolOf(runtime, options, holder);
    const { invocation, given } = startCall(runtime, pool, shape, args, start);
    if (isReady) send(pool, invocation);
    else {
      done.then(
        () => {
          invocation.message.code = shape.code;
          invocation.message.retryOn = shape.retryOn;
          if (!invocation.isCancelled) send(pool, invocation);
        },
        (error: RayliteError) => invocation.fail(error),
      );
    }
    return given;
  };
  return start;
}

/** Tasks with the same demands, and arguments at the same place, share leased workers. */
function poolOf(runtime: Runtime, options: TaskOptions, locality: string | null): TaskPool {
  const demand = {
    resources: resourcesOf(options, 1),
    labels: { ...options.labels },
    strategy: options.schedulingStrategy ?? 'DEFAULT',
    runtimeEnv: runtime.runtimeEnv,
    waitsIfInfeasible: options.infeasible === 'wait',
    fallbackLabels: options.fallbackLabels ?? [],
    bundle: bundleOf(options, runtime.bundle),
    locality,
  };
  const key = JSON.stringify([
    Object.entries(demand.resources).sort(),
    Object.entries(demand.labels).sort(),
    demand.strategy,
    demand.waitsIfInfeasible,
    demand.fallbackLabels,
    demand.bundle,
    locality,
    envKeyOf(options.runtimeEnv),
  ]);
  const pool = runtime.taskPools.get(key) ?? new TaskPool(runtime, demand);
  runtime.taskPools.set(key, pool);
  return pool;
}
