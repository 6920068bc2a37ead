// Where user code asked for something: errors that were made elsewhere get the stack of the asking line.
import { fileURLToPath } from 'node:url';

export interface CallSite {
  readonly stack?: string;
}

/** The stack above `asked`, a function that is running. */
export function siteOf(asked: (...args: never[]) => unknown): CallSite {
  const site: { stack?: string } = {};
  Error.captureStackTrace(site, asked);
  return site;
}

/** How many calls of one turn remember where they were made. */
const SITES_PER_TURN = 32;

/**
 * Which of a process's calls remember where they were made. Taking a stack costs as much as the rest of a call: of many calls
 * made in one turn of the event loop only the first keep their place, unless all are recorded (RAYLITE_RECORD_CALL_SITES).
 */
export class CallSites {
  readonly #recordsAll: boolean;
  #left = SITES_PER_TURN;

  constructor(recordsAll: boolean) {
    this.#recordsAll = recordsAll;
  }

  /** Where a call was made, for the stack of its error. */
  ofCall(calledFrom: (...args: never[]) => unknown): CallSite | null {
    if (this.#recordsAll) return siteOf(calledFrom);
    if (this.#left === 0) return null;
    if (this.#left === SITES_PER_TURN) {
      setImmediate(() => {
        this.#left = SITES_PER_TURN;
      });
    }
    this.#left -= 1;
    return siteOf(calledFrom);
  }
  /** Where an object was put, where that is recorded: it has no error to show it with. */
  recorded(calledFrom: (...args: never[]) => unknown): CallSite | null {
    return this.#recordsAll ? siteOf(calledFrom) : null;
  }
}

/** `error` with the stack of `site` in place of its own, which is that of another process or of internals; its cause keeps its own. */
export function withSite<E extends Error>(error: E, site: CallSite | null): E {
  const frames = site?.stack?.split('\n').slice(1).join('\n') ?? '    at one of many calls that were made in a row';
  error.stack = `${error.name}: ${error.message}\n${frames}`;
  return error;
}

/** The asking line: "file:line (function)"; empty when it is not known. */
export function placeOf(site: CallSite | null): string {
  const frame = site?.stack?.split('\n')[1]?.trim() ?? '';
  const match = /^at (?:(.*) \()?(.+?):(\d+)(?::\d+)?\)?$/.exec(frame);
  if (!match) return '';
  const [, name, where = '', line] = match;
  const file = where.startsWith('file:') ? fileURLToPath(where) : where;
  return `${file}:${line}${name ? ` (${name})` : ''}`;
}
