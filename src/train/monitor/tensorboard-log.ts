// Curves as event files that TensorBoard reads. A run writes one file; one that goes on from a checkpoint, here or in another
// process, goes on in it.
import { appendFile, mkdir, readdir, readFile, truncate } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { lengthUpTo, record, restartEvent, scalarsEvent, versionEvent } from './event-file.js';
import type { ScalarLog } from './scalar-log.js';
import type { Scalar } from './scalars.js';

/** Behind what TensorBoard looks for: files of others are not touched. */
const ENDING = '.raylite';

export class TensorBoardLog implements ScalarLog {
  readonly #folder: string;
  readonly #nowMs: () => number;
  #path: string | null = null;

  constructor(folder: string, nowMs: () => number) {
    this.#folder = folder;
    this.#nowMs = nowMs;
  }

  async start(position: number, isNew: boolean): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    const wallSeconds = this.#nowMs() / 1000;
    if (!isNew) this.#path ??= await newestIn(this.#folder);
    if (this.#path === null) {
      // TensorBoard orders files by their names, and so by the seconds in them.
      this.#path = join(
        this.#folder,
        `events.out.tfevents.${Math.floor(wallSeconds)}.${hostname()}.${process.pid}${ENDING}`,
      );
      await appendFile(this.#path, record(versionEvent(wallSeconds)));
      return;
    }
    await truncate(this.#path, lengthUpTo(await readFile(this.#path), position));
    await appendFile(this.#path, record(restartEvent(wallSeconds, position + 1)));
  }

  async append(position: number, scalars: readonly Scalar[]): Promise<void> {
    if (this.#path === null || scalars.length === 0) return;
    await appendFile(this.#path, record(scalarsEvent(this.#nowMs() / 1000, position, scalars)));
  }
}

async function newestIn(folder: string): Promise<string | null> {
  const names = (await readdir(folder)).filter((name) => name.includes('tfevents') && name.endsWith(ENDING));
  const newest = names.sort().at(-1);
  return newest === undefined ? null : join(folder, newest);
}
