// A driver and its cluster in processes of their own, to which messages get lost.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

const WORK = `
  import { appendFileSync } from 'node:fs';
  export const square = (x) => x * x;
  export class Noting {
    constructor(file) { this.file = file; }
    note(x) { appendFileSync(this.file, x + '\\n'); return x; }
  }
`;

/** Runs `main` with faults in all processes of its cluster; gives what it printed as JSON, and the notes that its actor made. */
export async function runWithFaults(
  t: TestContext,
  faults: string,
  main: string,
): Promise<{ told: unknown; notes: number[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'raylite-faults-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const notes = join(folder, 'notes');
  writeFileSync(notes, '');
  writeFileSync(join(folder, 'work.mjs'), WORK);
  writeFileSync(
    join(folder, 'main.mjs'),
    `import { actor, get, getActor, init, kill, kvGet, kvPut, listNamedActors, nodes, task } from ${JSON.stringify(import.meta.resolve('raylite'))};
     import { Noting, square } from './work.mjs';
     const notes = ${JSON.stringify(notes)};
     const cluster = await init({ numCpus: 2, logToDriver: false });
     ${main}
     await cluster.close();`,
  );
  const child = spawn(process.execPath, [join(folder, 'main.mjs')], {
    env: { ...process.env, RAYLITE_TMPDIR: folder, RAYLITE_TESTING_RPC_FAILURE: faults },
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk) => (stdout += chunk));
  child.stderr.on('data', (chunk) => (stderr += chunk));
  const [code] = await once(child, 'close');
  assert.equal(code, 0, stderr);
  const lines = readFileSync(notes, 'utf8').split('\n').filter(Boolean);
  return { told: JSON.parse(stdout), notes: lines.map(Number) };
}
