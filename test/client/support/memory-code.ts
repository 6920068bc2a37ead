// What the tests of memory limits run.
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Waits for ever; says that it runs. */
export async function hold(file: string): Promise<never> {
  writeFileSync(file, '');
  return new Promise(() => setInterval(() => {}, 1000));
}

/** Like {@link hold} in a file for each run, until it runs for the fourth time; then says which run it was. */
export async function holdThrice(folder: string): Promise<number> {
  const run = readdirSync(folder).filter((name) => name.startsWith('run-')).length + 1;
  const file = join(folder, `run-${run}`);
  return run < 4 ? await hold(file) : run;
}

export class Precious {
  alive(): string {
    return 'alive';
  }
}

export function eat(bytes: number): number {
  const kept: Buffer[] = [];
  for (let eaten = 0; eaten < bytes; eaten += 2 ** 24) kept.push(Buffer.alloc(2 ** 24, 1));
  return kept.length;
}
