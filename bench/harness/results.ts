// How figures are shown, kept in bench/results, and compared with what was committed.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Measured } from './figure.js';
import { machineSlug } from './machine.js';

const FOLDER = 'bench/results';

/** A ratio this much below the committed one is called worse. */
const WORSE_BELOW = 0.8;

export function table(figures: readonly Measured[]): string {
  const rows = figures.map((figure) => [
    figure.name,
    figure.unit,
    text(figure.ours),
    text(figure.peer),
    figure.peerName ?? '–',
    figure.ratio === null ? '–' : `${figure.ratio.toFixed(2)} ×`,
    `${figure.goal} ×`,
    figure.limit === null ? '–' : `${text(figure.limit)} (${figure.limitName})`,
  ]);
  const all = [['figure', 'unit', 'ours', 'peer', '', 'ratio', 'goal', 'limit'], ...rows];
  const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  const isNumber = (column: number) => [2, 3, 5, 6].includes(column);
  const line = (row: readonly string[]) =>
    row
      .map((cell, c) => (isNumber(c) ? cell.padStart(widths[c]!) : cell.padEnd(widths[c]!)))
      .join('  ')
      .trimEnd();
  return all.map(line).join('\n');
}

const text = (value: number | null): string =>
  value === null ? '–' : value >= 1000 ? Math.round(value).toLocaleString('en-US') : String(value);

/** Writes `figures` over those of the same names in today's file for this machine. Returns its path. */
export function save(figures: readonly Measured[]): string {
  mkdirSync(FOLDER, { recursive: true });
  const path = join(FOLDER, `${new Date().toISOString().slice(0, 10)}-${machineSlug()}.json`);
  const before = existsSync(path) ? read(path) : [];
  const kept = before.filter((old) => !figures.some((figure) => isSame(figure, old)));
  writeFileSync(path, `${JSON.stringify([...kept, ...figures], null, 2)}\n`);
  return path;
}

/** One sentence per figure whose ratio fell by more than a fifth since the newest committed results of such a machine. */
export function regressions(figures: readonly Measured[]): readonly string[] {
  const files = existsSync(FOLDER) ? readdirSync(FOLDER).filter((name) => name.endsWith(`-${machineSlug()}.json`)) : [];
  const committed = files.sort().flatMap((name) => read(join(FOLDER, name)));
  return figures.flatMap((figure) => {
    const before = committed.findLast((old) => isSame(figure, old))?.ratio ?? null;
    if (before === null || figure.ratio === null || figure.ratio >= before * WORSE_BELOW) return [];
    return [`worse: ${figure.suite} / ${figure.name}: ratio ${figure.ratio}, committed ${before}`];
  });
}

const isSame = (one: Measured, two: Measured): boolean => one.suite === two.suite && one.name === two.name;
const read = (path: string): readonly Measured[] => JSON.parse(readFileSync(path, 'utf8')) as readonly Measured[];
