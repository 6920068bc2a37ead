// Working directories: fetched from the head by their sha256, checked, unpacked once, strictly inside their folder.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { extract } from 'tar';
import { ConfigError, ConnectionError, PACKAGE_BYTES_MAX, PACKAGE_ENTRIES_MAX, PACKAGE_ROOT } from '../common/index.js';
import { clusterFetch } from '../protocol/tls/index.js';

const UNPACKED_BYTES_MAX = 2 * 1024 * 1024 * 1024;

export class Packages {
  readonly root: string;
  readonly #token: string;
  readonly #fetching = new Map<string, Promise<string>>();

  constructor(sessionDir: string, token: string) {
    this.root = join(sessionDir, 'packages');
    this.#token = token;
    const modules = join(this.root, 'node_modules');
    mkdirSync(modules, { recursive: true, mode: 0o700 });
    // So that `import 'raylite'` in a package means this installation, and `node --import tsx` runs TypeScript.
    const tsx = dirname(createRequire(import.meta.url).resolve('tsx/package.json'));
    for (const [name, folder] of Object.entries({ raylite: PACKAGE_ROOT, tsx })) {
      const link = join(modules, name);
      rmSync(link, { force: true });
      symlinkSync(folder, link);
    }
  }

  /** The folder of package `sha256`, fetched from `httpUrl` if it is not here. Rejects with ConfigError or ConnectionError. */
  ensure(sha256: string, httpUrl: string): Promise<string> {
    if (!/^[0-9a-f]{64}$/.test(sha256)) return Promise.reject(new ConfigError('package', 'a sha256', sha256));
    const folder = join(this.root, sha256);
    if (existsSync(folder)) return Promise.resolve(folder);
    const fetching =
      this.#fetching.get(sha256) ?? this.#fetch(sha256, httpUrl, folder).finally(() => this.#fetching.delete(sha256));
    this.#fetching.set(sha256, fetching);
    return fetching;
  }

  async #fetch(sha256: string, httpUrl: string, folder: string): Promise<string> {
    const url = `${httpUrl}/api/packages/${sha256}`;
    const reply = await clusterFetch(url, this.#token);
    if (!reply.ok)
      throw new ConnectionError({ address: url, detail: `the head does not give the package: ${reply.status}` });
    const bytes = Buffer.from(await reply.arrayBuffer());
    if (bytes.length > PACKAGE_BYTES_MAX)
      throw new ConfigError('package', `at most ${PACKAGE_BYTES_MAX} bytes`, bytes.length);
    const got = createHash('sha256').update(bytes).digest('hex');
    if (got !== sha256) throw new ConfigError('package', `bytes of sha256 ${sha256}`, got);
    const temporary = mkdtempSync(join(this.root, 'new-'));
    try {
      const archive = join(temporary, 'archive.tgz');
      const content = join(temporary, 'content');
      mkdirSync(content, { mode: 0o700 });
      writeFileSync(archive, bytes, { mode: 0o600 });
      await unpack(archive, content);
      if (!existsSync(folder)) renameSync(content, folder);
    } finally {
      rmSync(temporary, { recursive: true, force: true });
    }
    return folder;
  }
}

/** Unpacks regular files and folders; anything else, or too much, is refused before it is written. */
async function unpack(archive: string, into: string): Promise<void> {
  let entries = 0;
  let size = 0;
  let refusal: ConfigError | null = null;
  const refuse = (expected: string, got: unknown): false => {
    refusal ??= new ConfigError('package', expected, got);
    return false;
  };
  await extract({
    file: archive,
    cwd: into,
    strict: true,
    preservePaths: false,
    filter: (path, entry) => {
      const type = 'type' in entry ? entry.type : 'File';
      entries += 1;
      size += entry.size ?? 0;
      if (type !== 'File' && type !== 'Directory') return refuse('files and folders only', `${type} ${path}`);
      if (path.startsWith('/') || path.split('/').includes('..')) return refuse('paths inside it', path);
      if (entries > PACKAGE_ENTRIES_MAX) return refuse(`at most ${PACKAGE_ENTRIES_MAX} entries`, entries);
      if (size > UNPACKED_BYTES_MAX) return refuse(`at most ${UNPACKED_BYTES_MAX} bytes unpacked`, size);
      return refusal === null;
    },
  });
  if (refusal) throw refusal;
}
