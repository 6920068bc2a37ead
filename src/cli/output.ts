// How the command line speaks: tables, JSON, colour only on a terminal, errors as one block without stack traces.
import { styleText } from 'node:util';
import { CommanderError } from 'commander';
import { ConfigError, inColumns, RayliteError } from '../common/index.js';

/** Exit codes that scripts can rely on. */
export const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;
export const EXIT_INTERRUPTED = 130;

type Style = Parameters<typeof styleText>[0];

/** `text` in `style` where people read it: on a terminal that did not ask for none. */
export function paint(style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  const isWanted = stream.isTTY && !process.env.NO_COLOR && process.env.TERM !== 'dumb';
  return isWanted ? styleText(style, text) : text;
}

export const print = (text = ''): void => void process.stdout.write(`${text}\n`);
export const printJson = (value: unknown): void => print(JSON.stringify(value, null, 2));

/** Columns aligned to their widest cell. Control characters in cells cannot reach the terminal. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const [first, ...others] = inColumns([header, ...rows].map((row) => row.map((cell) => clean(cell))));
  return [paint('bold', first!), ...others].join('\n');
}

/** One line of text without control characters. */
export const clean = (text: string): string => text.replace(/\p{Cc}+/gu, ' ');

/** Text of several lines as one: line ends and tabs inside are shown as \\n and \\t, what cannot be seen is left out. */
export const oneLine = (text: string): string =>
  text
    .trim()
    .replace(/\r?\n/g, '\\n')
    .replace(/\t/g, '\\t')
    .replace(/[\p{Cc}\p{Cf}]+/gu, ' ')
    .trim();

/** "3s", "2m 5s", "1h 4m". */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes}m ${seconds % 60}s` : `${Math.floor(minutes / 60)}h ${minutes % 60}m`;
}

/** "0.4 ms", "120 ms", "3s". */
export const millis = (ms: number): string =>
  ms >= 1000 ? duration(ms) : `${ms < 10 ? Math.max(0, ms).toFixed(1) : Math.round(ms)} ms`;

/** Tells what went wrong on stderr and returns the exit code. RAYLITE_DEBUG=1 adds the stack. */
export function reportError(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE; // commander has said it
  const message = error instanceof Error ? error.message : String(error);
  const head = error instanceof RayliteError ? '' : 'unexpected: ';
  process.stderr.write(`${paint('red', 'error', process.stderr)}: ${head}${message}\n`);
  if (process.env.RAYLITE_DEBUG === '1' && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  else if (!(error instanceof RayliteError)) process.stderr.write('RAYLITE_DEBUG=1 shows where it happened.\n');
  return error instanceof ConfigError && error.path.startsWith('--') ? EXIT_USAGE : EXIT_FAILURE;
}
