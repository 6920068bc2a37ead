// Packs a working directory for upload: the same files give the same bytes, so that their sha256 names the package.
// Left out: .git, node_modules, and what .gitignore or .rayliteignore files say, in every folder below.
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import ignore, { type Ignore } from 'ignore';
import { create } from 'tar';
import { ConfigError, formatBytes, PACKAGE_BYTES_MAX, PACKAGE_ENTRIES_MAX } from '../../common/index.js';

const LARGEST_SHOWN = 3;
const ALWAYS_OUT = new Set(['.git', 'node_modules']);
const IGNORE_FILES = ['.gitignore', '.rayliteignore'];

export interface Package {
  readonly sha256: string;
  readonly archive: Buffer;
  readonly fileCount: number;
}

interface Rule {
  readonly base: string; // relative folder of the ignore file, "" or "a/b/"
  readonly matcher: Ignore;
}

/**
 * Packs `dir`, which the user named in `field`. Rejects with {@link ConfigError} when it is no folder, holds no file, or is
 * too large to upload.
 */
export async function packDirectory(dir: string, field: string): Promise<Package> {
  if (!lstatSync(dir, { throwIfNoEntry: false })) throw new ConfigError(field, 'a folder that exists', dir);
  const root = realpathSync(dir);
  if (!lstatSync(root).isDirectory()) throw new ConfigError(field, 'a folder', dir);
  const files: { readonly path: string; readonly bytes: number }[] = [];
  collect(root, '', [], files);
  if (files.length === 0) throw new ConfigError(field, 'a folder with files that are not ignored', dir);
  const total = files.reduce((sum, file) => sum + file.bytes, 0);
  if (total > PACKAGE_BYTES_MAX || files.length > PACKAGE_ENTRIES_MAX) {
    const largest = [...files].sort((a, b) => b.bytes - a.bytes).slice(0, LARGEST_SHOWN);
    const named = largest.map((file) => `${file.path} (${formatBytes(file.bytes)})`).join(', ');
    const hint = `Name what the job does not need in .rayliteignore. The largest: ${named}`;
    const limit = `at most ${formatBytes(PACKAGE_BYTES_MAX)} in ${PACKAGE_ENTRIES_MAX} files`;
    throw new ConfigError(field, limit, `${formatBytes(total)} in ${files.length} files`, hint);
  }
  const paths = files.map((file) => file.path).sort();
  const parts: Buffer[] = [];
  // No owners, no times: only names, modes and content count.
  const options = { cwd: root, gzip: { level: 6 }, portable: true, mtime: new Date(0), noDirRecurse: true };
  for await (const part of create(options, paths)) parts.push(part as Buffer);
  const archive = Buffer.concat(parts);
  return { sha256: createHash('sha256').update(archive).digest('hex'), archive, fileCount: paths.length };
}

function collect(root: string, base: string, outer: readonly Rule[], files: { path: string; bytes: number }[]): void {
  const rules = [...outer];
  const entries = readdirSync(join(root, base), { withFileTypes: true });
  for (const name of IGNORE_FILES) {
    if (entries.some((entry) => entry.name === name && entry.isFile())) {
      rules.push({ base, matcher: ignore().add(readFileSync(join(root, base, name), 'utf8')) });
    }
  }
  for (const entry of entries) {
    if (ALWAYS_OUT.has(entry.name)) continue;
    const path = `${base}${entry.name}`;
    if (isIgnored(rules, path, entry.isDirectory())) continue;
    if (entry.isDirectory()) collect(root, `${path}/`, rules, files);
    else if (entry.isFile()) files.push({ path, bytes: lstatSync(join(root, path)).size });
    // Links, sockets and devices stay here: what they point at means nothing on another machine.
  }
}

/** The innermost file that says something about `path` decides, as in git. */
function isIgnored(rules: readonly Rule[], path: string, isDirectory: boolean): boolean {
  for (const { base, matcher } of [...rules].reverse()) {
    const verdict = matcher.test(`${path.slice(base.length)}${isDirectory ? '/' : ''}`);
    if (verdict.ignored) return true;
    if (verdict.unignored) return false;
  }
  return false;
}
