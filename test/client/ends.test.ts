// Everything ends when its owner ends: an embedded cluster whose driver, agent or head is killed leaves nothing behind.
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const driver = fileURLToPath(new URL('./support/driver.js', import.meta.url));

/** The live processes whose environment names `root`: all that the driver started. */
function processesOf(root: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return (
          readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`RAYLITE_ROOT=${root}`) &&
          readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.[0] !== 'Z'
        );
      } catch {
        return false;
      }
    })
    .map(Number);
}
const commandOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
};

/** Asks until it is so; the test's own time limit is the only one. */
async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 20));
}

for (const victim of ['driver', 'node', 'head'] as const) {
  test(`kill -9 of the ${victim} leaves no process, arena or folder once the driver is gone`, {
    timeout: 60_000,
  }, async () => {
    const root = mkdtempSync(join(tmpdir(), 'raylite-ends-'));
    const child: ChildProcess = fork(driver, { env: { ...process.env, RAYLITE_ROOT: root }, silent: true });
    try {
      const { arena } = await new Promise<{ arena: string }>((resolve, reject) => {
        child.once('message', (message) => resolve(message as { arena: string }));
        child.once('exit', (code) => reject(new Error(`the driver ended with ${code}`)));
      });
      assert.ok(existsSync(arena));
      if (victim !== 'driver') {
        const pid = processesOf(root).find((candidate) => commandOf(candidate).includes(`/${victim}/main.js`));
        assert.ok(pid, `the ${victim} runs`);
        process.kill(pid, 'SIGKILL');
      }
      child.kill('SIGKILL');
      await until(() => processesOf(root).length === 0 && !existsSync(arena) && readdirSync(root).length === 0);
    } finally {
      for (const pid of processesOf(root)) process.kill(pid, 'SIGKILL');
      rmSync(root, { recursive: true, force: true });
    }
  });
}
