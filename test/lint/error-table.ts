// Holds the table of errors in README.md and the error classes of src/ together.

export interface ErrorClass {
  readonly name: string;
  readonly code: string;
  readonly isRetryable: boolean;
}

/** The error classes with a code that a source file declares. */
export function errorClasses(source: string): readonly ErrorClass[] {
  return source
    .split(/^export class /m)
    .slice(1)
    .map((body) => ({
      name: body.match(/^(\w+) extends/)?.[1] ?? '',
      code: body.match(/readonly code = '(\w+)'/)?.[1] ?? '',
      isRetryable: /isRetryable = true/.test(body.split(/^}/m)[0]!),
    }))
    .filter(({ name, code }) => name !== '' && code !== '');
}

/** Rows are `| Class | code | yes or no | what to do |`. */
export function checkErrorTable(classes: readonly ErrorClass[], readme: string): readonly string[] {
  const rows = [...readme.matchAll(/^\| `(\w+Error)`\s*\| `(RAYLITE_\w+)`\s*\| (yes|no)\s*\|/gm)].map((match) => ({
    name: match[1]!,
    code: match[2]!,
    isRetryable: match[3] === 'yes',
  }));
  const problems: string[] = [];
  for (const { name, code, isRetryable } of classes) {
    const row = rows.find((candidate) => candidate.name === name);
    if (!row) problems.push(`README.md: its table of errors lacks ${name}`);
    else if (row.code !== code) problems.push(`README.md: ${name} has the code ${code}, the table says ${row.code}`);
    else if (row.isRetryable !== isRetryable)
      problems.push(`README.md: ${name} is ${isRetryable ? '' : 'not '}retryable, the table says otherwise`);
  }
  for (const { name } of rows)
    if (!classes.some((known) => known.name === name))
      problems.push(`README.md: its table of errors has ${name}, which does not exist`);
  return problems;
}
