// Reads the files of the repository that the rules look at.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path/posix';
import type { Sources } from './layering.js';

const SKIPPED = ['generated', 'node_modules', 'results', '.venv'];

/** Every file below `folder` whose name ends with one of `endings`, by its path from `root`. */
export function readSources(root: string, folder: string, endings: readonly string[]): Sources {
  const sources = new Map<string, string>();
  const visit = (path: string): void => {
    for (const entry of readdirSync(join(root, path), { withFileTypes: true })) {
      const child = join(path, entry.name);
      if (entry.isDirectory() && !SKIPPED.includes(entry.name)) visit(child);
      else if (entry.isFile() && endings.some((ending) => entry.name.endsWith(ending)))
        sources.set(child, readFileSync(join(root, child), 'utf8'));
    }
  };
  if (existsSync(join(root, folder))) visit(folder);
  return sources;
}
