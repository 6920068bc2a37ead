// Rules about the text of single files that the formatter does not know.
import { withoutComments } from './imports.js';
import type { Sources } from './layering.js';

interface Rule {
  readonly pattern: RegExp;
  readonly message: string;
  /** Files it does not hold for. */
  readonly except?: RegExp;
}

const RULES: readonly Rule[] = [
  { pattern: /biome-ignore.*noExplicitAny/, message: '`any` is allowed nowhere: use `unknown` and a decoder' },
  // A test of types may say what must not compile: there the directive fails when the error goes away.
  { pattern: /@ts-(?:ignore|nocheck|expect-error)/, message: 'the compiler is silenced', except: /types\.test\.ts$/ },
  { pattern: /\b(?:TODO|FIXME|XXX)\b/, message: 'unfinished work: finish it or open an issue' },
  { pattern: /(?<![\w.])\/(?:work|home|root)\/\w/, message: "a path of somebody's machine" },
];

/** Checks TypeScript files: forbidden words, and a first line that says what the file is for. */
export function checkText(sources: Sources): readonly string[] {
  const problems: string[] = [];
  for (const [path, text] of sources) {
    const lines = text.split('\n');
    const first = lines[0]?.startsWith('#!') ? lines[1] : lines[0];
    if (!/^(?:\/\/|\/\*)/.test(first ?? '')) problems.push(`${path}:1: the first line must say what the file is for`);
    for (const { pattern, message, except } of RULES) {
      if (except?.test(path)) continue;
      for (const [index, line] of lines.entries()) {
        if (pattern.test(line)) problems.push(`${path}:${index + 1}: ${message}`);
      }
    }
  }
  return problems;
}

/** The wire's own rules: every file opens with a comment, numbers of fields are not reused, and no 64-bit integers (protobufjs would make objects of them). */
export function checkProto(sources: Sources): readonly string[] {
  const problems: string[] = [];
  for (const [path, text] of sources) {
    if (!text.startsWith('//')) problems.push(`${path}:1: the first line must say which conversation this is`);
    if (!/^package raylite;$/m.test(text)) problems.push(`${path}: the package must be raylite`);
    for (const [index, line] of withoutComments(text).split('\n').entries()) {
      if (/\b(?:u?int64|sint64|s?fixed64)\b/.test(line))
        problems.push(`${path}:${index + 1}: a 64-bit integer: use double for amounts, string or bytes for ids`);
      const field = line.match(/^\s+(?:repeated\s+|optional\s+)?[\w.<>, ]+?\s(\w+)\s*=\s*\d+/)?.[1];
      if (field && !/^[a-z][a-z0-9_]*$/.test(field) && !/^\s+[A-Z_]+\s*=/.test(line))
        problems.push(`${path}:${index + 1}: field ${field} must be snake_case`);
    }
  }
  return problems;
}
