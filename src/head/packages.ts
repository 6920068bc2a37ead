// Uploaded working directories: archives named by the sha256 of their bytes. Written beside, checked, then renamed, so
// that a name always means whole and right content.
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ConfigError, PACKAGE_BYTES_MAX } from '../common/index.js';

export class PackageStore {
  readonly #dir: string;
  readonly #bytesMax: number;

  constructor(dir: string, bytesMax = PACKAGE_BYTES_MAX) {
    this.#dir = dir;
    this.#bytesMax = bytesMax;
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  }

  /** Throws {@link ConfigError} for what is no sha256 in hex; so no other path can be named. */
  #pathOf(sha256: string): string {
    if (!/^[0-9a-f]{64}$/.test(sha256)) throw new ConfigError('package', 'a sha256 in 64 hex digits', sha256);
    return join(this.#dir, `${sha256}.tar.gz`);
  }

  has(sha256: string): boolean {
    return existsSync(this.#pathOf(sha256));
  }

  /** Null when there is none. */
  read(sha256: string): { readonly bytes: number; readonly stream: Readable } | null {
    const path = this.#pathOf(sha256);
    const stat = statSync(path, { throwIfNoEntry: false });
    return stat ? { bytes: stat.size, stream: createReadStream(path) } : null;
  }

  /** Keeps `body` if it is `sha256`. Throws {@link ConfigError} when it is larger than allowed or something else. */
  async write(sha256: string, body: AsyncIterable<Uint8Array>): Promise<void> {
    const path = this.#pathOf(sha256);
    const part = join(this.#dir, `.part-${randomBytes(8).toString('hex')}`);
    const hash = createHash('sha256');
    const limit = this.#bytesMax;
    async function* checked(): AsyncGenerator<Uint8Array> {
      let bytes = 0;
      for await (const chunk of body) {
        bytes += chunk.byteLength;
        if (bytes > limit) {
          const hint = 'Name what the job does not need in .rayliteignore';
          throw new ConfigError('package', `at most ${limit} bytes`, bytes, hint);
        }
        hash.update(chunk);
        yield chunk;
      }
    }
    try {
      await pipeline(checked(), createWriteStream(part, { mode: 0o600, flags: 'wx' }));
      const digest = hash.digest('hex');
      if (digest !== sha256) throw new ConfigError('package', `content with the sha256 ${sha256}`, digest);
      renameSync(part, path);
    } finally {
      rmSync(part, { force: true });
    }
  }
}
