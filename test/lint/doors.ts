// What users can import has a word of what it is: everything that the package's doors export, wherever it is declared.
import { dirname, join } from 'node:path/posix';
import type { Sources } from './layering.js';

const DECLARATION = /^export (?:abstract )?(?:async )?(?:interface|class|function\*?|const|type) (\w+)/;

/** Checks that what `doors` (paths of `sources`) export is documented where it is declared. */
export function checkDoors(sources: Sources, doors: readonly string[]): readonly string[] {
  const bare = new Set<string>();
  for (const door of doors)
    for (const { path, name } of exportsOf(sources, door)) {
      const lines = (sources.get(path) ?? '').split('\n');
      const at = lines.findIndex((line) => line.match(DECLARATION)?.[1] === name);
      if (at >= 0 && !lines[at - 1]?.trimEnd().endsWith('*/'))
        bare.add(`${path}:${at + 1}: ${name} is exported to users without a docstring`);
    }
  return [...bare].sort();
}

interface Export {
  readonly path: string;
  readonly name: string;
}

/** What a file exports, by the files that declare it. */
function exportsOf(sources: Sources, path: string): readonly Export[] {
  const text = sources.get(path) ?? '';
  const target = (specifier: string) => join(dirname(path), specifier.replace(/\.js$/, '.ts'));
  const own = text.split('\n').flatMap((line) => line.match(DECLARATION)?.[1] ?? []);
  const named = [...text.matchAll(/^export (?:type )?\{([^}]*)\} from '([^']+)'/gm)].flatMap(([, list, specifier]) => {
    const names = list!.split(',').map(
      (item) =>
        item
          .trim()
          .replace(/^type /, '')
          .split(' as ')[0]!,
    );
    const wanted = new Set(names.filter(Boolean));
    return exportsOf(sources, target(specifier!)).filter(({ name }) => wanted.has(name));
  });
  const all = [...text.matchAll(/^export \* from '([^']+)'/gm)].flatMap(([, specifier]) =>
    exportsOf(sources, target(specifier!)),
  );
  return [...own.map((name) => ({ path, name })), ...named, ...all];
}

/** The files behind `exports` of a package.json. */
export function doorsOf(packageJson: string): readonly string[] {
  const { exports } = JSON.parse(packageJson) as {
    readonly exports: Readonly<Record<string, string | { types: string }>>;
  };
  return Object.values(exports).flatMap((entry) =>
    typeof entry === 'string' ? [] : [entry.types.replace(/^\.\/dist\//, 'src/').replace(/\.d\.ts$/, '.ts')],
  );
}
