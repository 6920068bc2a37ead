// npm dependencies of workers: installed once on a machine for each set of them, shared by all that ask for the same, and kept
// for the next clusters too, until they are too many or too old.
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { ConfigError, RuntimeEnvSetupError } from '../common/index.js';
import type { wire } from '../protocol/index.js';
import { killGroup, spawnBound } from './spawn-bound.js';

/** As Ray's limit for each of its caches. */
const CACHE_BYTES_MAX = 10 * 1024 ** 3;
const UNUSED_MS_MAX = 30 * 24 * 3600 * 1000;
/** What was used so short a time ago stays: workers may be on their way. */
const PINNED_MS = 10 * 60 * 1000;
const INSTALL_MS_MAX = 600_000;
const LINES_SHOWN = 20;

/** Where sets of packages lie when RAYLITE_CACHE_DIR names no other place. */
const defaultFolder = (): string => join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'raylite');

export class NpmEnvs {
  readonly #root: string;
  readonly #npm: string;
  readonly #umask: number;
  readonly #installing = new Map<string, Promise<string>>();

  /** @param npm the program */
  constructor(umask: number, npm = 'npm') {
    this.#root = join(process.env.RAYLITE_CACHE_DIR || defaultFolder(), 'npm');
    this.#npm = npm;
    this.#umask = umask;
  }

  /** A folder with `node_modules` that has what `env` asks for. Rejects with RuntimeEnvSetupError, with npm's last words. */
  ensure(env: wire.NpmEnv.$Properties): Promise<string> {
    const { packageJson, lockfile } = { packageJson: env.packageJson ?? '', lockfile: env.lockfile ?? '' };
    const versions = `${process.versions.modules}-${process.platform}-${process.arch}`;
    const key = createHash('sha256')
      .update(JSON.stringify([packageJson, lockfile, versions]))
      .digest('hex');
    const folder = join(this.#root, key);
    if (existsSync(folder)) {
      touch(folder);
      return Promise.resolve(folder);
    }
    const installing =
      this.#installing.get(key) ??
      this.#install(packageJson, lockfile, folder).finally(() => this.#installing.delete(key));
    this.#installing.set(key, installing);
    return installing;
  }

  async #install(packageJson: string, lockfile: string, folder: string): Promise<string> {
    mkdirSync(this.#root, { recursive: true, mode: 0o700 });
    const fresh = mkdtempSync(join(this.#root, 'new-'));
    try {
      writeFileSync(join(fresh, 'package.json'), packageJson);
      if (lockfile !== '') writeFileSync(join(fresh, 'package-lock.json'), lockfile);
      const verb = lockfile === '' ? 'install' : 'ci';
      // Scripts of packages do not run: an environment is data, which no package may turn into code on every node.
      await this.#run(fresh, [verb, '--ignore-scripts', '--omit=dev', '--no-audit', '--no-fund', '--install-links']);
      writeFileSync(join(fresh, '.bytes'), String(bytesOf(fresh)));
      try {
        renameSync(fresh, folder);
      } catch (error) {
        if (!existsSync(folder)) throw error; // else another agent of this machine was faster
      }
    } finally {
      rmSync(fresh, { recursive: true, force: true });
    }
    this.#collect();
    return folder;
  }

  #run(cwd: string, args: readonly string[]): Promise<void> {
    return new Promise((resolve, reject) => {
      const child = spawnBound(this.#npm, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] }, this.#umask);
      let said = '';
      const hear = (chunk: Buffer): void => {
        said = `${said}${chunk}`.slice(-64 * 1024);
      };
      child.stdout?.on('data', hear);
      child.stderr?.on('data', hear);
      const late = setTimeout(() => {
        said += `\nit took longer than ${INSTALL_MS_MAX / 1000} s`;
        killGroup(child, 'SIGKILL');
      }, INSTALL_MS_MAX);
      const fail = (how: string): void => {
        const lines = said.trim().split('\n').slice(-LINES_SHOWN);
        reject(new RuntimeEnvSetupError({ detail: `npm ${args[0]} ${how}:\n  ${lines.join('\n  ')}` }));
      };
      child.once('error', (error) => {
        clearTimeout(late);
        fail(`could not be started (${error.message})`);
      });
      child.once('close', (code, signal) => {
        clearTimeout(late);
        if (code === 0) resolve();
        else fail(`ended with ${signal ?? code}`);
      });
    });
  }

  /** Lets go of what nobody used for long, and of the rest the longest unused while all are too large. */
  #collect(nowMs = Date.now()): void {
    const limit = Number(process.env.RAYLITE_NPM_CACHE_BYTES || CACHE_BYTES_MAX);
    if (!(limit >= 0)) throw new ConfigError('RAYLITE_NPM_CACHE_BYTES', 'bytes', process.env.RAYLITE_NPM_CACHE_BYTES);
    const kept = readdirSync(this.#root)
      .map((name) => join(this.#root, name))
      .map((path) => ({ path, usedMs: statSync(path).mtimeMs, bytes: sizeOf(path) }))
      .sort((a, b) => a.usedMs - b.usedMs);
    let total = kept.reduce((sum, { bytes }) => sum + bytes, 0);
    for (const { path, usedMs, bytes } of kept) {
      const unusedMs = nowMs - usedMs;
      if (unusedMs < PINNED_MS || (total <= limit && unusedMs < UNUSED_MS_MAX)) continue;
      rmSync(path, { recursive: true, force: true });
      total -= bytes;
    }
  }
}

const touch = (folder: string): void => {
  const now = new Date();
  utimesSync(folder, now, now);
};

/** What was noted when it was installed; of what was broken off, 0. */
function sizeOf(folder: string): number {
  try {
    return Number(readFileSync(join(folder, '.bytes'), 'utf8'));
  } catch {
    return 0;
  }
}

function bytesOf(folder: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath ?? dirname(folder), entry.name)).size, 0);
}
