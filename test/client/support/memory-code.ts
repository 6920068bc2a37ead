// What the tests of memory limits run.
import { writeFileSync } from 'node:fs';

/** Waits for ever; says that it runs. */
export async function hold(file: string): Promise<never> {
  writeFileSync(file, '');
  return new Promise(() => setInterval(() => {}, 1000));
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
