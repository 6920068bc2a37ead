// Tasks as users see them: `task(fn, options)(...args)` gives a ref at once.
import { ConfigError, type RayliteError } from '../common/index.js';
import { failureOf } from '../protocol/index.js';
import type { Arguments } from './actor-handle.js';
import { type Code, codeRefOf } from './code-ref.js';
import { currentRuntime } from './current.js';
import { invocation } from './invoke.js';
import type { ObjectRef } from './object-ref.js';
import { checkTaskOptions, resourcesOf, type TaskOptions } from './options.js';
import { packageFolders } from './package-folders.js';
import type { Runtime } from './runtime.js';
import { TaskPool } from './task-pool.js';

const MAX_RETRIES = 3; // of a task whose worker crashed, as in Ray

/** Runs an exported function on a worker of the cluster: `await task(square)(3)`. Its errors come as TaskError. */
export function task<Args extends readonly unknown[], Result>(
  run: (...args: Args extends unknown[] ? Args : never) => Result,
  options: TaskOptions = {},
): (...args: Arguments<Args>) => ObjectRef<Awaited<Result>> {
  if (typeof run !== 'function') throw new ConfigError('task', 'a function', run);
  if (/^class\b/.test(Function.prototype.toString.call(run)))
    throw new ConfigError('task', 'a function', run, `${run.name} is a class: use actor(${run.name}).create()`);
  checkTaskOptions(options);
  const name = run.name || 'task';
  const target: { code?: Awaited<ReturnType<typeof codeRefOf>> } = {};
  let located: { readonly by: Runtime; readonly done: Promise<void>; pool: TaskPool; isReady: boolean } | null = null;
  const start = (...args: Arguments<Args>): ObjectRef<Awaited<Result>> => {
    const runtime = currentRuntime();
    if (located?.by !== runtime) {
      const found = codeRefOf(run as Code, packageFolders(runtime)).then((code) => {
        target.code = code;
        if (located) located.isReady = true;
      });
      located = { by: runtime, done: found, pool: poolOf(runtime, options), isReady: false };
    }
    const { pool, done, isReady } = located;
    const started = invocation(runtime, pool, name, target, args, options.maxRetries ?? MAX_RETRIES, start, pool);
    if (isReady) pool.send(started.invocation);
    else {
      done.then(
        () => {
          started.invocation.message.code = target.code;
          if (!started.invocation.isCancelled) pool.send(started.invocation);
        },
        (error: RayliteError) =>
          started.invocation.state.settle({ kind: 'failed', failure: failureOf(error), local: error }),
      );
    }
    return started.ref as ObjectRef<Awaited<Result>>;
  };
  return start;
}

/** Tasks with the same demands share leased workers. */
function poolOf(runtime: Runtime, options: TaskOptions): TaskPool {
  const demand = {
    resources: resourcesOf(options, 1),
    labels: { ...options.labels },
    strategy: options.schedulingStrategy ?? 'DEFAULT',
    runtimeEnv: runtime.runtimeEnv,
    waitsIfInfeasible: options.infeasible === 'wait',
  };
  const key = JSON.stringify([
    Object.entries(demand.resources).sort(),
    Object.entries(demand.labels).sort(),
    demand.strategy,
    demand.waitsIfInfeasible,
  ]);
  const pool = runtime.taskPools.get(key) ?? new TaskPool(runtime, demand);
  runtime.taskPools.set(key, pool);
  return pool;
}
