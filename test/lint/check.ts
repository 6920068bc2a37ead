// All rules over a repository: what `npm run lint` adds to the formatter, and what a test holds.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkDoors, doorsOf } from './doors.js';
import { checkErrorTable, errorClasses } from './error-table.js';
import { checkNativeLayers, checkTypeScriptLayers, type Sources } from './layering.js';
import { readRooms } from './rooms.js';
import { readSources } from './sources.js';
import { checkProto, checkText } from './text-rules.js';

export interface Report {
  readonly problems: readonly string[];
  readonly sizes: readonly string[];
}

const TYPESCRIPT = ['.ts', '.tsx'];

/** Checks the repository at `root`. */
export function checkRepository(root: string): Report {
  const architecture = readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8');
  const src = readSources(root, 'src', TYPESCRIPT);
  const native = readSources(root, 'native', ['.h', '.cpp', '.inc']);
  const beside = ['test', 'bench', 'examples'].flatMap((folder) => [...readSources(root, folder, TYPESCRIPT)]);
  return {
    problems: [
      ...checkTypeScriptLayers(src, readRooms(architecture, 'src')),
      ...checkNativeLayers(native, readRooms(architecture, 'native')),
      // The rules' own words stand in test/lint.
      ...checkText(new Map([...src, ...beside.filter(([path]) => !path.startsWith('test/lint/'))])),
      ...checkProto(readSources(root, 'proto', ['.proto'])),
      ...checkDoors(src, doorsOf(readFileSync(join(root, 'package.json'), 'utf8'))),
      ...checkErrorTable([...src.values()].flatMap(errorClasses), readFileSync(join(root, 'README.md'), 'utf8')),
    ],
    sizes: sizeReport(new Map([...src, ...native])),
  };
}

/** One line per room: files, lines, median and largest file. */
export function sizeReport(sources: Sources): readonly string[] {
  const rooms = new Map<string, { path: string; lines: number }[]>();
  for (const [path, text] of sources) {
    const room = path.split('/').slice(0, 2).join('/');
    rooms.set(room, [...(rooms.get(room) ?? []), { path, lines: text.split('\n').length - 1 }]);
  }
  return [...rooms].map(([room, files]) => {
    const sorted = files.toSorted((a, b) => a.lines - b.lines);
    const total = files.reduce((sum, { lines }) => sum + lines, 0);
    const largest = sorted.at(-1)!;
    const columns = [`${files.length} files`, `${total} lines`, `median ${sorted[sorted.length >> 1]!.lines}`];
    return `${room.padEnd(16)}${columns.map((text) => text.padStart(14)).join('')}   largest ${largest.path} (${largest.lines})`;
  });
}
