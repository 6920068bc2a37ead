// The rooms of ARCHITECTURE.md's table and what each may import. The table is the rule; this file only reads it.

export interface Room {
  readonly name: string;
  /** Rooms (or single files, "comm/communicator.h") that this one may import. */
  readonly mayImport: ReadonlySet<string>;
  /** Its code may name the types of any room, since types are gone at run time. */
  readonly typesOfAll: boolean;
}

/** Reads the rows `| src/<room>/ | purpose | may import |` below `prefix` ("src" or "native"), in their order. */
export function readRooms(architecture: string, prefix: string): ReadonlyMap<string, Room> {
  const rows = architecture
    .split('\n')
    .map((line) => line.match(/^\|\s*`([a-z]+)\/([a-z-]+)\/`\s*\|[^|]*\|([^|]*)\|$/))
    .filter((match) => match !== null)
    .filter((match) => match[1] === prefix)
    .map((match) => ({ name: match[2]!, rule: match[3]!.trim() }));
  const names = rows.map(({ name }) => name);
  return new Map(
    rows.map(({ name, rule }, index) => [
      name,
      { name, mayImport: new Set(allowed(rule, names, index)), typesOfAll: rule.endsWith('at run time') },
    ]),
  );
}

function allowed(rule: string, names: readonly string[], index: number): readonly string[] {
  if (rule === '' || rule.startsWith('nothing of ours')) return [];
  if (rule === 'all') return names;
  const except = rule.match(/^all above but (.*)$/);
  if (except) {
    const without = words(except[1]!);
    return names.slice(0, index).filter((name) => !without.includes(name));
  }
  const listed = words(rule.replaceAll('`', ''));
  const unknown = listed.find((word) => !names.includes(word.split('/')[0]!));
  if (unknown) throw new Error(`ARCHITECTURE.md: the row of ${names[index]} names "${unknown}", which has no row`);
  return listed;
}

const words = (text: string): readonly string[] => text.split(/, | and /).map((word) => word.trim());
