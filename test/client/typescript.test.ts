// Drivers and workers that run TypeScript with what Node alone does not know: enums, parameter properties, "./x.js" for x.ts.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

test('workers load the TypeScript that a driver under tsx loads', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'raylite-ts-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(folder, 'colour.ts'), `export enum Colour { Red = 'red' }`);
  writeFileSync(
    join(folder, 'painter.ts'),
    `import { Colour } from './colour.js';
     export class Painter { constructor(private readonly coats: number) {} paint(): string { return Colour.Red + this.coats; } }
     export const colour = (): Colour => Colour.Red;`,
  );
  writeFileSync(
    join(folder, 'main.ts'),
    `import { actor, init, task } from ${JSON.stringify(import.meta.resolve('raylite'))};
     import { colour, Painter } from './painter.js';
     const cluster = await init({ numCpus: 2 });
     const painter = await actor(Painter).create(2);
     console.log(await painter.paint(), await task(colour)());
     await cluster.close();`,
  );
  const args = ['--import', import.meta.resolve('tsx'), join(folder, 'main.ts')];
  assert.equal(execFileSync(process.execPath, args, { encoding: 'utf8' }), 'red2 red\n');
});
