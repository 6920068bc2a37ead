// A reporter for node:test that writes one JSON line per finished test, for the runner that started the process.
// Loaded with --test-reporter; must import nothing but Node, and print nothing itself.
import { inspect } from 'node:util';
import type { TestLine } from './test-file.js';

interface Event {
  readonly type: string;
  readonly data: {
    readonly name?: string;
    readonly nesting?: number;
    readonly skip?: boolean | string;
    readonly todo?: boolean | string;
    readonly details?: { readonly type?: string; readonly error?: { readonly failureType?: string; cause?: unknown } };
  };
}

export default async function* eventsReporter(source: AsyncIterable<Event>): AsyncGenerator<string> {
  for await (const { type, data } of source) {
    const line = lineOf(type, data);
    if (line) yield `${JSON.stringify(line)}\n`;
  }
}

function lineOf(type: string, data: Event['data']): TestLine | null {
  const name = data.name ?? '';
  if (type === 'test:dequeue') return { kind: 'started', name };
  if (type !== 'test:pass' && type !== 'test:fail') return null;
  // A suite or parent that fails only because of its subtests says nothing that they did not say.
  const error = data.details?.error;
  if (type === 'test:fail' && error?.failureType === 'subtestsFailed') return { kind: 'ended', name };
  if (isSet(data.skip) || isSet(data.todo)) {
    const reason = isSet(data.skip) ? data.skip : data.todo;
    return { kind: 'skipped', name, reason: typeof reason === 'string' ? reason : 'no reason given' };
  }
  if (type === 'test:fail') return { kind: 'failed', name, detail: inspect(error?.cause ?? error, { depth: 4 }) };
  return data.details?.type === 'suite' ? { kind: 'ended', name } : { kind: 'passed', name };
}

const isSet = (mark: boolean | string | undefined): boolean => mark !== undefined && mark !== false;
