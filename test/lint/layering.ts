// The layering rule: arrows go down ARCHITECTURE.md's table only, other rooms are entered by their doors, and no files
// import each other in a ring.
import { dirname, join } from 'node:path/posix';
import { type Import, importsOf, includesOf } from './imports.js';
import type { Room } from './rooms.js';

/** Files by path from the repository's root, with their text. */
export type Sources = ReadonlyMap<string, string>;

/** What is wrong with the imports of `src/`, one sentence each. */
export function checkTypeScriptLayers(sources: Sources, rooms: ReadonlyMap<string, Room>): readonly string[] {
  const problems: string[] = [];
  const graph = new Map<string, readonly string[]>();
  for (const [path, text] of sources) {
    const own = roomOf(path);
    const room = rooms.get(own);
    if (!room) {
      problems.push(`${path}: src/${own}/ has no row in ARCHITECTURE.md's table of rooms`);
      continue;
    }
    const imports = importsOf(text);
    for (const found of imports) problems.push(...checkImport(path, found, room));
    const insiders = imports
      .filter(({ specifier, typeOnly }) => specifier.startsWith('.') && !typeOnly)
      .map(({ specifier }) => sourcePath(path, specifier, sources))
      .filter((target) => sources.has(target));
    graph.set(path, insiders);
  }
  return [
    ...problems,
    ...rings(graph).map((ring) => `${ring[0]}: imports itself by way of ${ring.slice(1).join(' → ')}`),
  ];
}

function checkImport(path: string, { specifier, line, typeOnly }: Import, room: Room): readonly string[] {
  const at = `${path}:${line}`;
  if (specifier.startsWith('#src/') || specifier === 'raylite' || specifier.startsWith('raylite/'))
    return [`${at}: imports '${specifier}'; inside src/ paths are relative`];
  if (!specifier.startsWith('.')) return [];
  const target = join(dirname(path), specifier);
  if (!target.startsWith('src/')) return [`${at}: '${specifier}' leaves src/`];
  const other = roomOf(target);
  if (other === room.name) return [];
  if (!room.mayImport.has(other) && !(typeOnly && room.typesOfAll))
    return [`${at}: ${room.name} may not import ${other} (ARCHITECTURE.md, table of rooms)`];
  // A room's own door, or that of a folder in it which not everybody loads.
  if (!/^src\/[^/]+(?:\/[^/]+)?\/index\.js$/.test(target))
    return [`${at}: enters ${other} by '${specifier}'; its door is src/${other}/index.ts`];
  return [];
}

/** What is wrong with the includes of `native/`, one sentence each. */
export function checkNativeLayers(sources: Sources, rooms: ReadonlyMap<string, Room>): readonly string[] {
  const problems: string[] = [];
  for (const [path, text] of sources) {
    const own = roomOf(path);
    const room = rooms.get(own);
    if (!room) {
      problems.push(`${path}: native/${own}/ has no row in ARCHITECTURE.md's table of rooms`);
      continue;
    }
    for (const { specifier, line } of includesOf(text)) {
      // Includes are from native/; a bare name is a neighbour in the same folder.
      const other = specifier.includes('/') ? specifier.split('/')[0]! : own;
      if (other !== own && !room.mayImport.has(other) && !room.mayImport.has(specifier))
        problems.push(`${path}:${line}: ${own} may not include ${specifier} (ARCHITECTURE.md, table of rooms)`);
    }
  }
  return problems;
}

const roomOf = (path: string): string => path.split('/')[1] ?? '';

/** The source file behind an import's `.js`. */
function sourcePath(from: string, specifier: string, sources: Sources): string {
  const base = join(dirname(from), specifier).replace(/\.js$/, '');
  return [`${base}.ts`, `${base}.tsx`].find((path) => sources.has(path)) ?? `${base}.js`;
}

/** Each ring of files once, starting at the file where the search met it. */
function rings(graph: ReadonlyMap<string, readonly string[]>): readonly (readonly string[])[] {
  const found: string[][] = [];
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    const seen = trail.indexOf(path);
    if (seen >= 0) {
      found.push([...trail.slice(seen), path]);
      return;
    }
    if (done.has(path)) return;
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
    done.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
  return found;
}
