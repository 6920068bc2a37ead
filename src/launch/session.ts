// Where clusters on this machine keep their files: one folder a session, and <root>/current.json, by which commands find
// the cluster that `raylite start` started. The root is private to its user; RAYLITE_TMPDIR moves it, which separates clusters.
import { randomBytes } from 'node:crypto';
import { chmodSync, lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { ConfigError, type CurrentCluster, isOfDead } from '../common/index.js';

/** Folders of clusters that `raylite start` started. */
export const SESSION_PREFIX = 'session-';
/** Folders of clusters that end with their driver. */
export const DRIVER_PREFIX = 'driver-';
/** Ended sessions whose logs are kept. */
const OLD_SESSIONS_MAX = 5;

/** How a head was started, so that it can be started again as it was. */
export interface HeadOptions {
  readonly host: string;
  readonly port: number;
  readonly httpHost: string;
  readonly httpPort: number;
  readonly tls?: Readonly<Record<string, string>>;
}

export interface Session {
  readonly dir: string;
  readonly tokenFile: string;
}

/** The folder of all sessions. Refuses one that another user could have prepared. */
export function sessionRoot(): string {
  const root = process.env.RAYLITE_TMPDIR || join(tmpdir(), `raylite-${userInfo().uid}`);
  mkdirSync(root, { recursive: true, mode: 0o700 });
  const stat = lstatSync(root);
  if (!stat.isDirectory() || stat.uid !== userInfo().uid) {
    throw new ConfigError(
      'RAYLITE_TMPDIR',
      'a folder that belongs to this user',
      root,
      'Set it to a folder of your own',
    );
  }
  if ((stat.mode & 0o077) !== 0) chmodSync(root, 0o700);
  return root;
}

/** A folder for a cluster that stays; its logs are kept for a while after it has ended. */
export function newSession(root: string, token: string): Session {
  const dir = newSessionDir(root, SESSION_PREFIX);
  const tokenFile = join(dir, 'token');
  writeFileSync(tokenFile, `${token}\n`, { mode: 0o600, flag: 'wx' });
  return { dir, tokenFile };
}

/** A folder for one cluster. */
export function newSessionDir(root: string, prefix: string): string {
  // Sorts by time, and is short: the paths of Unix sockets below it must fit into 107 bytes.
  const stamp = Math.floor(Date.now() / 1000).toString(36);
  const dir = join(root, `${prefix}${stamp}-${randomBytes(3).toString('hex')}`);
  mkdirSync(join(dir, 'logs'), { recursive: true, mode: 0o700 });
  return dir;
}

/** @param starter the name of the process that starts another */
export const bootFileName = (starter: string): string => `boot-${starter}.json`;
const BOOT_FILE = /^boot-(.+)\.json$/;

/** Removes what processes left that were killed while they started others: boot files, which hold a token, and clusters of their own. */
export function removeDeadStarts(root: string): void {
  for (const folder of readdirSync(root, { withFileTypes: true })) {
    const isDrivers = folder.name.startsWith(DRIVER_PREFIX);
    if (!folder.isDirectory() || !(isDrivers || folder.name.startsWith(SESSION_PREFIX))) continue;
    const dir = join(root, folder.name);
    for (const name of namesIn(dir)) {
      const [, starter = ''] = BOOT_FILE.exec(name) ?? [];
      if (isOfDead(starter)) rmSync(isDrivers ? dir : join(dir, name), { recursive: true, force: true });
    }
  }
}

function namesIn(dir: string): readonly string[] {
  try {
    return readdirSync(dir);
  } catch {
    return []; // removed meanwhile
  }
}

const currentPath = (root: string): string => join(root, 'current.json');

/** Null when no cluster was started here (or it was stopped). */
export function readCurrent(root: string): CurrentCluster | null {
  try {
    return JSON.parse(readFileSync(currentPath(root), 'utf8')) as CurrentCluster;
  } catch {
    return null; // absent, or torn by a crash of an older version: both mean "nothing to find"
  }
}

/** As {@link readCurrent}, for who wants to talk to that cluster: this process takes over how it speaks TLS. */
export function adoptCurrent(root: string): CurrentCluster | null {
  const current = readCurrent(root);
  for (const [name, value] of Object.entries(current?.tls ?? {})) process.env[name] ??= value;
  return current;
}

/** Replaces current.json as a whole. */
export function writeCurrent(root: string, current: CurrentCluster): void {
  const part = `${currentPath(root)}.${process.pid}`;
  writeFileSync(part, `${JSON.stringify(current, null, 2)}\n`, { mode: 0o600 });
  renameSync(part, currentPath(root));
}

export const removeCurrent = (root: string): void => rmSync(currentPath(root), { force: true });

export const saveHeadOptions = (dir: string, options: HeadOptions): void =>
  writeFileSync(join(dir, 'head.json'), JSON.stringify(options), { mode: 0o600 });

export function readHeadOptions(dir: string): HeadOptions | null {
  try {
    return JSON.parse(readFileSync(join(dir, 'head.json'), 'utf8')) as HeadOptions;
  } catch {
    return null;
  }
}

/** The token in `file`, which must be private. Throws {@link ConfigError}. */
export function readToken(file: string, name = '--token-file'): string {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new ConfigError(name, 'a file that can be read', file, undefined, { cause });
  }
  const token = text.trim();
  if (!/^[\x21-\x7e]{16,512}$/.test(token)) {
    throw new ConfigError(name, 'a file with one token of 16 to 512 printable characters', file);
  }
  return token;
}

/** Removes the oldest ended sessions of `root`, but never `keep`. */
export function pruneSessions(root: string, keep: readonly string[]): void {
  const dirs = readdirSync(root)
    .filter((name) => name.startsWith(SESSION_PREFIX))
    .map((name) => join(root, name))
    .filter((dir) => !keep.includes(dir))
    .sort();
  for (const dir of dirs.slice(0, Math.max(0, dirs.length - OLD_SESSIONS_MAX))) {
    rmSync(dir, { recursive: true, force: true });
  }
}
