// What a plan says is what the process takes: peak resident memory above what it had before, on a model of some 400 MB.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const CHILD = fileURLToPath(import.meta.resolve('./memory-child.js'));
const skip = !existsSync('/proc/self/status') && 'needs /proc';

for (const recompute of ['none', 'full']) {
  test(`the measured peak is within 3 % of the plan (recompute: ${recompute})`, { skip }, () => {
    const child = spawnSync(process.execPath, ['--expose-gc', CHILD, recompute], { encoding: 'utf8' });
    assert.equal(child.status, 0, child.stderr);
    const { planned, measured } = JSON.parse(child.stdout) as { planned: number; measured: number };
    assert.ok(planned > 350e6, `${planned}`);
    assert.ok(Math.abs(measured / planned - 1) < 0.03, `planned ${planned}, measured ${measured}`);
  });
}
