// What a test may need from the machine. Each probe gives the reason to skip for node:test's `skip`, or false; .ci/run
// installs these services and forbids skipping.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

const CHROMIUMS = ['chromium-headless-shell', 'chromium', 'google-chrome'];

/** Path of a Chromium for playwright-core's `executablePath`, or null. */
export function chromiumPath(): string | null {
  return CHROMIUMS.map(findProgram).find((path) => path !== null) ?? null;
}

export function withoutChromium(): string | false {
  return chromiumPath() === null && 'Chromium is not installed (Debian: chromium-headless-shell)';
}

/** Two machines are two network namespaces joined by a veth pair: needs root and iproute2. */
export function withoutNetworkNamespaces(): string | false {
  if (findProgram('ip') === null) return 'the program "ip" is not installed (Debian: iproute2)';
  const name = `rlprobe-${process.pid}`;
  const made = spawnSync('ip', ['netns', 'add', name], { encoding: 'utf8', env: withSbin() });
  if (made.status !== 0) return `network namespaces cannot be made here: ${made.stderr.trim()}`;
  spawnSync('ip', ['netns', 'delete', name], { env: withSbin() });
  return false;
}

export function withoutOpenssl(): string | false {
  return findProgram('openssl') === null && 'the program "openssl" is not installed (Debian: openssl)';
}

/** A file or folder of the shared material beside the repository, as "data/alpaca-2k.jsonl". */
export const sharedPath = (path: string): string => resolve('../shared', path);

export function withoutShared(path: string): string | false {
  return !existsSync(sharedPath(path)) && `../shared/${path} is not on this machine`;
}

/** Where a program lies, in PATH or where Debian keeps those of root. */
export function findProgram(name: string): string | null {
  const places = (withSbin().PATH ?? '').split(':').map((folder) => join(folder, name));
  return places.find(isExecutable) ?? null;
}

const withSbin = (): NodeJS.ProcessEnv => ({ ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` });

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
