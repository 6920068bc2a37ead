// What workers find when they begin: environment variables, and code of the user's that runs before anything else.
import { ConfigError } from '../common/index.js';
import type { wire } from '../protocol/index.js';
import { type Code, codeRefOf, type PackageFolder } from './code-ref.js';

/** Of one task or actor; what is not given is the job's. */
export interface WorkEnvOptions {
  /** Environment variables of its worker, beside those of the job. */
  readonly envVars?: Readonly<Record<string, string>>;
  /**
   * An exported function that its worker runs (and awaits) once, before anything else. What it throws is the cause of a
   * RuntimeEnvSetupError.
   */
  readonly setup?: () => unknown;
}

/** Of all that a driver starts. */
export interface RuntimeEnvOptions extends WorkEnvOptions {
  /** A folder that workers get a copy of and run in. */
  readonly workingDir?: string;
}

const WORK_ENV = ['envVars', 'setup'];

/** Throws {@link ConfigError}. */
export function checkRuntimeEnv(env: RuntimeEnvOptions | undefined, known: readonly string[] = WORK_ENV): void {
  if (env === undefined) return;
  if (typeof env !== 'object' || env === null) throw new ConfigError('runtimeEnv', 'an object', env);
  for (const key of Object.keys(env))
    if (!known.includes(key)) throw new ConfigError(`runtimeEnv.${key}`, `one of ${known.join(', ')}`, key);
  for (const [name, value] of Object.entries(env.envVars ?? {}))
    if (typeof value !== 'string') throw new ConfigError(`runtimeEnv.envVars.${name}`, 'a text', value);
  if (env.setup !== undefined && typeof env.setup !== 'function')
    throw new ConfigError('runtimeEnv.setup', 'an exported function', env.setup);
}
export const checkJobEnv = (env: RuntimeEnvOptions | undefined): void =>
  checkRuntimeEnv(env, ['workingDir', ...WORK_ENV]);

/** `base` with what `given` changes in it. Rejects with CodeNotFoundError. */
export async function runtimeEnvWith(
  base: wire.RuntimeEnv.$Properties,
  given: WorkEnvOptions | undefined,
  packages: readonly PackageFolder[],
): Promise<wire.RuntimeEnv.$Properties> {
  if (given === undefined) return base;
  const setup = given.setup ? await codeRefOf(given.setup as Code, packages) : base.setup;
  return { ...base, envVars: { ...base.envVars, ...given.envVars }, ...(setup && { setup }) };
}

const setupIds = new WeakMap<object, number>();
let lastSetupId = 0;

/** Equal for equal environments: tasks with the same share workers. */
export function envKeyOf({ envVars = {}, setup }: WorkEnvOptions = {}): unknown {
  if (setup && !setupIds.has(setup)) setupIds.set(setup, ++lastSetupId);
  return [Object.entries(envVars).sort(), setup ? setupIds.get(setup) : 0];
}
