// Curves as CSV files, one per name, as DeepSpeed's csv_monitor writes them: a header `step,NAME` at the start of each run, then a
// line per point. A run that is started anew in the same folder begins behind the lines of the one before.
import { appendFile, mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ScalarLog } from './scalar-log.js';
import type { Scalar } from './scalars.js';

const HEADER = /^step,/;
const ENDING = '.csv';

export class CsvLog implements ScalarLog {
  readonly #folder: string;
  /** Files that have the header of this run. */
  readonly #begun = new Set<string>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  async start(position: number, isNew: boolean): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    if (isNew) return;
    for (const name of await readdir(this.#folder)) {
      if (!name.endsWith(ENDING)) continue;
      const path = join(this.#folder, name);
      const text = await readFile(path, 'utf8');
      const kept = withoutPointsBehind(text, position);
      if (kept === null) continue; // not ours
      this.#begun.add(name);
      if (kept === text) continue;
      // Whoever reads at this moment sees the old file or the new one.
      await writeFile(`${path}.new`, kept);
      await rename(`${path}.new`, path);
    }
  }

  async append(position: number, scalars: readonly Scalar[]): Promise<void> {
    for (const { tag, value } of scalars) {
      const name = `${tag.replace(/[/ ]/g, '_')}${ENDING}`;
      const header = this.#begun.has(name) ? '' : `step,${tag.slice(tag.lastIndexOf('/') + 1)}\n`;
      await appendFile(join(this.#folder, name), `${header}${position},${csvNumber(value)}\n`);
      this.#begun.add(name);
    }
  }
}

/** As Python's csv module writes numbers that are none. */
function csvNumber(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  return Number.isFinite(value) ? String(value) : value > 0 ? 'inf' : '-inf';
}

/** Of the last run in `text`: its whole lines up to `position`. Null for a file that is no curve. */
export function withoutPointsBehind(text: string, position: number): string | null {
  const whole = text.slice(0, text.lastIndexOf('\n') + 1); // a line that a crash cut is not a point
  const lines = whole.split('\n').slice(0, -1);
  const header = lines.findLastIndex((line) => HEADER.test(line));
  if (header < 0) return null;
  const kept = lines.filter((line, index) => index <= header || Number(line.split(',')[0]) <= position);
  return kept.map((line) => `${line}\n`).join('');
}
