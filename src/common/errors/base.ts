// What all errors of raylite share. Facts are fields; the message is built from them. Never match on text: match on `code` or the class.

/** Base of all errors of raylite. `isRetryable` says whether the same call may succeed if made again unchanged. */
export abstract class RayliteError extends Error {
  abstract readonly code: string;
  readonly isRetryable: boolean = false;
  override get name(): string {
    return this.constructor.name;
  }
}

/** The end of a message of a process that ended: the last lines that it wrote, if there were any. */
export const lastOutput = (lines: readonly string[] = []): string =>
  lines.length > 0 ? `\nIts last output:\n${lines.map((line) => `  ${line}`).join('\n')}` : '';

/** A short, single-line rendering of any value for messages. */
export function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'number') return String(value); // JSON has no NaN
  if (typeof value === 'function') return `the function ${value.name || 'without a name'}`;
  const text = typeof value === 'string' ? JSON.stringify(value) : (safeJson(value) ?? String(value));
  return text.length > 120 ? `${text.slice(0, 117)}…` : text;
}

function safeJson(value: unknown): string | undefined {
  try {
    return JSON.stringify(value);
  } catch {
    return undefined; // cycles and bigints have no JSON
  }
}
