// Finds what a source file imports, without a compiler: the imports of this code base are all static and literal.

export interface Import {
  readonly specifier: string;
  readonly line: number;
  readonly typeOnly: boolean;
}

/** Imports, re-exports and `import()` of a TypeScript file. */
export function importsOf(source: string): readonly Import[] {
  const code = withoutComments(source);
  const pattern =
    /(?:^|\n)\s*(?:import|export)\s+(type\s)?(?:[\w*{}\s,$]+?\sfrom\s+)?'([^'\n]+)'|\bimport\(\s*'([^'\n]+)'\s*\)/g;
  return [...code.matchAll(pattern)].map((match) => ({
    specifier: (match[2] ?? match[3])!,
    line: lineAt(code, match.index + match[0].length),
    typeOnly: match[1] !== undefined || isTypeList(match[0]),
  }));
}

/** `#include "…"` of a C++ file. */
export function includesOf(source: string): readonly Import[] {
  return [...source.matchAll(/^[ \t]*#[ \t]*include[ \t]+"([^"]+)"/gm)].map((match) => ({
    specifier: match[1]!,
    line: lineAt(source, match.index),
    typeOnly: false,
  }));
}

/** The source with comments blanked, lines kept. Strings are left alone, so that a URL is no comment. */
export function withoutComments(source: string): string {
  const pattern = /('(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`)|\/\/[^\n]*|\/\*[\s\S]*?\*\//g;
  return source.replace(pattern, (text, string) => (string === undefined ? text.replace(/[^\n]/g, ' ') : text));
}

/** `import { type A, type B } from`: every name is a type. */
function isTypeList(statement: string): boolean {
  const list = statement.match(/\{([^}]*)\}/)?.[1];
  if (list === undefined || !/^\s*(?:import|export)\s*\{/.test(statement)) return false;
  const names = list.split(',').map((name) => name.trim());
  return names.filter(Boolean).every((name) => name.startsWith('type '));
}

const lineAt = (text: string, index: number): number => text.slice(0, index).split('\n').length;
