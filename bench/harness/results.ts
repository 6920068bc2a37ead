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
    goalOf(figure),
    figure.limit === null ? '–' : `${text(figure.limit)} (${figure.limitName})`,
    percent(figure.shareOfLimit),
  ]);
  const all = [['figure', 'unit', 'ours', 'peer', '', 'ratio', 'goal', 'limit', 'of limit'], ...rows];
  const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  const isNumber = (column: number) => [2, 3, 5, 6, 8].includes(column);
  const line = (row: readonly string[]) =>
    row
      .map((cell, c) => (isNumber(c) ? cell.padStart(widths[c]!) : cell.padEnd(widths[c]!)))
      .join('  ')
      .trimEnd();
  return all.map(line).join('\n');
}

function goalOf({ goal, goalShare, goalValue }: Measured): string {
  if (goal !== null) return `${goal} ×`;
  return goalShare === null ? text(goalValue) : `${percent(goalShare)} of limit`;
}

const percent = (share: number | null): string => (share === null ? '–' : `${Math.round(100 * share)} %`);

const text = (value: number | null): string =>
  value === null ? '–' : value >= 1000 ? Math.round(value).toLocaleString('en-US') : String(value);

/** Writes the figure over the one of its name in today's file for this machine. Returns the file's path. */
export function save(figure: Measured): string {
  mkdirSync(FOLDER, { recursive: true });
  const path = join(FOLDER, `${new Date().toISOString().slice(0, 10)}-${machineSlug()}.json`);
  const kept = (existsSync(path) ? read(path) : []).filter((old) => !isSame(figure, old));
  writeFileSync(path, `${JSON.stringify([...kept, figure], null, 2)}\n`);
  return path;
}

/** A sentence if the figure fell by more than a fifth since the newest saved result of such a machine, else nothing. */
export function regressions(figure: Measured): readonly string[] {
  const files = existsSync(FOLDER) ? readdirSync(FOLDER).filter((name) => name.endsWith(`-${machineSlug()}.json`)) : [];
  const saved = files.sort().flatMap((name) => read(join(FOLDER, name)));
  const old = saved.findLast((candidate) => isSame(figure, candidate));
  const key = figure.ratio !== null ? 'ratio' : figure.limit !== null ? 'shareOfLimit' : 'shareOfGoal';
  const [before, now] = [old?.[key] ?? null, figure[key]];
  if (before === null || now === null || now >= before * WORSE_BELOW) return [];
  return [`worse: ${figure.suite} / ${figure.name}: ${key} ${now}, saved ${before}`];
}

const isSame = (one: Measured, two: Measured): boolean => one.suite === two.suite && one.name === two.name;
const read = (path: string): readonly Measured[] => JSON.parse(readFileSync(path, 'utf8')) as readonly Measured[];
