// What workers find when they begin: environment variables, npm packages, and code of the user's that runs before anything else.
import { readFileSync } from 'node:fs';
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
  /**
   * npm packages that its code imports by name: `left-pad@1.3.0`, `mine@file:/path/of/it.tgz`, or the files that list
   * them. Installed once on each machine; scripts of packages do not run. What npm says when it
   * fails is in a RuntimeEnvSetupError.
   */
  readonly npm?: readonly string[] | NpmFiles;
}

/** Paths on this machine. With a lockfile everybody gets the same versions. */
export interface NpmFiles {
  readonly packageJson: string;
  readonly lockfile?: string;
}

/** Of all that a driver starts. */
export interface RuntimeEnvOptions extends WorkEnvOptions {
  /** A folder that workers get a copy of and run in. */
  readonly workingDir?: string;
}

const WORK_ENV = ['envVars', 'setup', 'npm'];

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
  if (env.npm !== undefined) npmOf(env.npm);
}

/** The texts of a set of packages. Throws {@link ConfigError}. */
function npmOf(npm: NonNullable<WorkEnvOptions['npm']>): wire.NpmEnv.$Properties {
  if (isList(npm))
    return { packageJson: JSON.stringify({ private: true, dependencies: dependenciesOf(npm) }), lockfile: '' };
  if (typeof npm !== 'object' || npm === null)
    throw new ConfigError('runtimeEnv.npm', 'a list of packages, or { packageJson, lockfile }', npm);
  const read = (field: keyof NpmFiles): string => {
    const path = npm[field];
    if (typeof path !== 'string') throw new ConfigError(`runtimeEnv.npm.${field}`, 'a path', path);
    try {
      const text = readFileSync(path, 'utf8');
      JSON.parse(text);
      return text;
    } catch (cause) {
      throw new ConfigError(`runtimeEnv.npm.${field}`, 'a JSON file that can be read', path, undefined, { cause });
    }
  };
  return { packageJson: read('packageJson'), lockfile: npm.lockfile === undefined ? '' : read('lockfile') };
}

const isList = (npm: NonNullable<WorkEnvOptions['npm']>): npm is readonly string[] => Array.isArray(npm);

/** "name", "name@range" or an absolute path, as package.json says it. */
function dependenciesOf(packages: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(
    packages.map((text, index) => {
      if (typeof text === 'string') {
        const [, name, range = '*'] = /^((?:@[\w.-]+\/)?[\w.-]+)(?:@(.+))?$/.exec(text) ?? [];
        if (name && !name.startsWith('.')) return [name, range];
      }
      throw new ConfigError(
        `runtimeEnv.npm[${index}]`,
        'a package such as "left-pad@1.3.0" or "mine@file:/path/of/it.tgz"',
        text,
      );
    }),
  );
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
  const npm = given.npm === undefined ? base.npm : npmOf(given.npm);
  return { ...base, envVars: { ...base.envVars, ...given.envVars }, ...(setup && { setup }), ...(npm && { npm }) };
}

const setupIds = new WeakMap<object, number>();
let lastSetupId = 0;

/** Equal for equal environments: tasks with the same share workers. */
export function envKeyOf({ envVars = {}, setup, npm }: WorkEnvOptions = {}): unknown {
  if (setup && !setupIds.has(setup)) setupIds.set(setup, ++lastSetupId);
  return [Object.entries(envVars).sort(), setup ? setupIds.get(setup) : 0, npm];
}
