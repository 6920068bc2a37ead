// Reads user settings with a zod schema; the first thing wrong becomes a ConfigError with its path, and a misspelt key is told
// its nearest neighbour, one of another library what it is called here.
import type { z } from 'zod';
import { ConfigError, valueAt } from '../common/index.js';
import { hereCalled } from './foreign-names.js';

/** `value` as `schema` reads it. `place` starts the path in messages. `knownKeys` are suggested for misspelt ones. */
export function parse<S extends z.ZodType>(
  schema: S,
  value: unknown,
  place: string,
  knownKeys: readonly string[] = [],
): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = firstIssue(result.error.issues);
  const path = [place, ...issue.path.map(String)].join('.');
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0] ?? '';
    throw new ConfigError(`${path}.${key}`, 'a key that exists', key, hintFor(key, knownKeys));
  }
  throw new ConfigError(path, expectation(issue), valueAt(value, issue.path));
}

/** Long lists help nobody. */
const LISTED_MAX = 40;

function hintFor(key: string, knownKeys: readonly string[]): string {
  const here = hereCalled(key);
  if (here !== null && !knownKeys.includes(key)) return `Here it is ${here}`;
  const near = nearest(key, knownKeys);
  if (near !== null) return `Did you mean "${near}"?`;
  const isShort = knownKeys.length > 0 && knownKeys.length <= LISTED_MAX;
  return isShort ? `There are ${[...knownKeys].sort().join(', ')}` : 'There is no such key';
}

type Issue = z.core.$ZodIssue;

/** Of a union the issue of the branch that came furthest: its path is the longest. */
function firstIssue(issues: readonly Issue[]): Issue {
  const issue = issues[0]!;
  if (issue.code !== 'invalid_union') return issue;
  const inner = issue.errors
    .filter((branch) => branch.length > 0)
    .map((branch) => firstIssue(branch))
    .sort((a, b) => b.path.length - a.path.length)[0];
  return inner && inner.path.length > 0 ? { ...inner, path: [...issue.path, ...inner.path] } : issue;
}

/** zod's own words, as "expected …" wants them. */
function expectation(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return issue.expected === 'int' ? 'an integer' : `a value of type ${issue.expected}`;
    case 'invalid_value':
      return `one of ${issue.values.map((item) => JSON.stringify(item)).join(', ')}`;
    case 'too_small':
      return `a value ${issue.inclusive ? 'of at least' : 'above'} ${issue.minimum}`;
    case 'too_big':
      return `a value ${issue.inclusive ? 'of at most' : 'below'} ${issue.maximum}`;
    case 'invalid_union':
      if (issue.errors.length > 0) return alternatives(issue.errors);
      // "Invalid discriminator value. Expected 'a' | 'b'", where a key chooses the branch
      return issue.message
        .replace(/^.* Expected /, 'one of ')
        .replaceAll(' | ', ', ')
        .replaceAll("'", '"');
    default:
      return issue.message;
  }
}

/** What each branch of a union would take, where none came further than the value itself. */
function alternatives(branches: readonly (readonly Issue[])[]): string {
  const expected = branches.filter((branch) => branch.length > 0).map((branch) => expectation(firstIssue(branch)));
  return [...new Set(expected)].join(' or ');
}

/** The candidate with the fewest edits, if they are few enough for a slip. */
export function nearest(word: string, candidates: readonly string[]): string | null {
  let best: string | null = null;
  let fewest = Math.max(2, Math.ceil(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const edits = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (edits < fewest) [best, fewest] = [candidate, edits];
  }
  return best;
}

/** Levenshtein's distance, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_unused, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1)
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length]!;
}
