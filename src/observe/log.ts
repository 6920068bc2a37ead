// The log of a daemon: one JSON object a line, appended to a file. Never blocks a step, never holds a secret.
import { appendFileSync } from 'node:fs';

export type LogLevel = 'info' | 'warn' | 'error';

export interface Log {
  info(message: string, facts?: Readonly<Record<string, unknown>>): void;
  warn(message: string, facts?: Readonly<Record<string, unknown>>): void;
  error(message: string, facts?: Readonly<Record<string, unknown>>): void;
}

/** A log that appends to `path` (mode 0600). `component` is repeated on each line. */
export function openLog(path: string, component: string): Log {
  const write = (level: LogLevel, message: string, facts: Readonly<Record<string, unknown>> = {}): void => {
    const line = { time: new Date().toISOString(), level, component, pid: process.pid, message, ...plain(facts) };
    try {
      appendFileSync(path, `${JSON.stringify(line)}\n`, { mode: 0o600 });
    } catch {
      // A full or removed disk must not end the daemon: its log is all that is lost.
    }
  };
  return {
    info: (message, facts) => write('info', message, facts),
    warn: (message, facts) => write('warn', message, facts),
    error: (message, facts) => write('error', message, facts),
  };
}

const plain = (facts: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(facts).map(([key, value]) => [key, value instanceof Error ? (value.stack ?? value.message) : value]),
  );
