// Where a cluster on this machine keeps its files: one folder per user under the system's temporary folder, 0700.
import { randomBytes } from 'node:crypto';
import { chmodSync, lstatSync, mkdirSync, readFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { ConfigError, type CurrentCluster } from '../common/index.js';

/** `$RAYLITE_TMPDIR`, else `<tmp>/raylite-<user id>`. Refuses a folder that is another user's or a link to elsewhere. */
export function rootDir(): string {
  const path = process.env.RAYLITE_TMPDIR ?? join(tmpdir(), `raylite-${userInfo().uid}`);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const stat = lstatSync(path);
  if (!stat.isDirectory() || stat.uid !== userInfo().uid)
    throw new ConfigError('RAYLITE_TMPDIR', 'a folder of the current user', path, 'Remove it or set RAYLITE_TMPDIR');
  chmodSync(path, 0o700);
  return path;
}

/** A new folder for one cluster; its name is short, since the paths of Unix sockets must be. */
export function newSessionDir(): string {
  const path = join(rootDir(), `s-${randomBytes(4).toString('hex')}`);
  mkdirSync(join(path, 'logs'), { recursive: true, mode: 0o700 });
  chmodSync(path, 0o700);
  return path;
}

/** The cluster that `raylite start` started on this machine, or null. */
export function currentCluster(): CurrentCluster | null {
  try {
    return JSON.parse(readFileSync(join(rootDir(), 'current.json'), 'utf8')) as CurrentCluster;
  } catch {
    return null;
  }
}
