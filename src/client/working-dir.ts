// A working directory as a package: one archive, named by the sha256 of its bytes, uploaded once.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import ignore from 'ignore';
import { create } from 'tar';
import { ConfigError, ConnectionError, formatBytes } from '../common/index.js';

const PACKAGE_BYTES_MAX = 512 * 1024 * 1024;
const ALWAYS_LEFT_OUT = ['.git', 'node_modules/.cache', '.venv', 'venv', '__pycache__'];

export interface Package {
  readonly sha256: string;
  readonly bytes: Buffer;
}

/** Packs `folder` without what its .gitignore leaves out (node_modules stay if not ignored). The same content gives the same bytes. */
export async function packWorkingDir(folder: string): Promise<Package> {
  const root = resolve(folder);
  if (!statSync(root, { throwIfNoEntry: false })?.isDirectory())
    throw new ConfigError('runtimeEnv.workingDir', 'a folder that exists', folder);
  const files = filesBelow(root);
  const chunks: Buffer[] = [];
  let size = 0;
  const archive = create(
    { cwd: root, gzip: { level: 6 }, portable: true, noMtime: true, follow: true, strict: true, noDirRecurse: true },
    files.length > 0 ? files : ['.'],
  );
  for await (const chunk of archive as unknown as AsyncIterable<Buffer>) {
    chunks.push(Buffer.from(chunk));
    size += chunk.length;
    if (size > PACKAGE_BYTES_MAX)
      throw new ConfigError(
        'runtimeEnv.workingDir',
        `at most ${formatBytes(PACKAGE_BYTES_MAX)} when packed`,
        folder,
        'List large files in .gitignore and put them where all nodes can read them',
      );
  }
  const bytes = Buffer.concat(chunks);
  return { sha256: createHash('sha256').update(bytes).digest('hex'), bytes };
}

function filesBelow(root: string): string[] {
  const found: string[] = [];
  const walk = (
    folder: string,
    rules: readonly { readonly at: string; readonly rule: ReturnType<typeof ignore> }[],
  ): void => {
    const names = readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
    const own = names.some(({ name }) => name === '.gitignore')
      ? [...rules, { at: folder, rule: ignore().add(readFileSync(join(folder, '.gitignore'), 'utf8')) }]
      : rules;
    for (const entry of names) {
      const path = join(folder, entry.name);
      const stat = statSync(path, { throwIfNoEntry: false }); // a link that leads nowhere is left out
      const isFolder = stat?.isDirectory() ?? false;
      const isIgnored = own.some(({ at, rule }) => rule.ignores(`${relative(at, path)}${isFolder ? '/' : ''}`));
      if (!stat || isIgnored) continue;
      if (isFolder && !(entry.isSymbolicLink() && root.startsWith(path))) walk(path, own);
      else if (stat.isFile()) found.push(relative(root, path));
    }
  };
  walk(root, [{ at: root, rule: ignore().add(ALWAYS_LEFT_OUT) }]);
  return found;
}

/** Puts a package where nodes fetch it. */
export async function uploadPackage(httpUrl: string, token: string, { sha256, bytes }: Package): Promise<void> {
  const url = `${httpUrl}/api/packages/${sha256}`;
  const headers = { authorization: `Bearer ${token}` };
  const there = await fetch(url, { method: 'HEAD', headers });
  if (there.ok) return;
  const reply = await fetch(url, { method: 'PUT', headers, body: new Uint8Array(bytes) });
  if (!reply.ok)
    throw new ConnectionError({
      address: httpUrl,
      detail: `the package was refused: ${reply.status} ${await reply.text()}`,
    });
}
