// How a test run looks on the terminal or in a log: a line per file, failures in full, a closing list of skips.
import type { FileResult } from './test-file.js';

/** A skip that says so is no missing service: the test does not apply, whatever is installed. */
export const BY_DESIGN = 'by design:';

const LOG_LINES = 60;
const DETAIL_LINES = 40;

export function printFile(result: FileResult): void {
  const counts = [
    `${result.passed} passed`,
    ...(result.failed.length > 0 ? [`${result.failed.length} FAILED`] : []),
    ...(result.skipped.length > 0 ? [`${result.skipped.length} skipped`] : []),
  ].join(', ');
  const mark = result.failed.length > 0 ? '✖' : '✔';
  console.log(`${mark} ${shortName(result.file)}  ${counts}  ${result.seconds.toFixed(1)} s`);
  for (const { name, detail } of result.failed) console.log(`    ✖ ${name}\n${indent(head(detail))}`);
  if (result.failed.length > 0 && result.output.trim() !== '') {
    const lines = result.output.trimEnd().split('\n');
    console.log(
      `    what it printed${lines.length > LOG_LINES ? ` (last ${LOG_LINES} of ${lines.length} lines)` : ''}:`,
    );
    console.log(indent(lines.slice(-LOG_LINES).join('\n')));
  }
}

/** Prints which tests failed at first and passed at the second try: each is a fault to be found, in the test or in what it tests. */
export function printUnsteady(results: readonly (FileResult & { readonly firstTry: FileResult | null })[]): void {
  const unsteady = results.filter((result) => result.firstTry && result.failed.length === 0);
  if (unsteady.length === 0) return;
  console.log('\nUnsteady, passed at the second try:');
  for (const { file, firstTry } of unsteady)
    for (const { name } of firstTry!.failed) console.log(`  ${shortName(file)}: ${name}`);
}

/** Prints what was skipped, grouped by reason. Returns how many of the skips are forbidden. */
export function printSkips(results: readonly FileResult[], forbidSkip: boolean): number {
  const byReason = new Map<string, string[]>();
  for (const { file, skipped } of results) {
    for (const { name, reason } of skipped) {
      byReason.set(reason, [...(byReason.get(reason) ?? []), `${shortName(file)}: ${name}`]);
    }
  }
  if (byReason.size === 0) return 0;
  let forbidden = 0;
  console.log('\nSkipped:');
  for (const [reason, names] of byReason) {
    const isForbidden = forbidSkip && !reason.startsWith(BY_DESIGN);
    if (isForbidden) forbidden += names.length;
    console.log(`  ${reason}${isForbidden ? '  (forbidden in this run: counts as failed)' : ''}`);
    for (const name of names) console.log(`    ${name}`);
  }
  return forbidden;
}

const shortName = (file: string): string => file.replace(/^build\/tests\//, '').replace(/\.js$/, '.ts');

const indent = (text: string): string => text.replace(/^/gm, '      ');

function head(text: string): string {
  const lines = text.split('\n');
  return lines.length <= DETAIL_LINES ? text : [...lines.slice(0, DETAIL_LINES), '…'].join('\n');
}
