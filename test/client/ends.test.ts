// Everything ends when its owner ends: an embedded cluster whose driver, agent or head is killed leaves nothing behind.
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

/** Drivers killed while they start, at a time. */
const KILLS = 12;
const driver = fileURLToPath(new URL('./support/driver.js', import.meta.url));

/** The live processes whose environment names `root`: all that the driver started. */
function processesOf(root: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return (
          readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`RAYLITE_TMPDIR=${root}`) &&
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

/** All files but those for a process that its driver had no more time to start: how it starts, an empty log. Null: some go just now. */
function filesBelow(root: string): string[] | null {
  try {
    return readdirSync(root, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !entry.name.startsWith('boot-'))
      .map(({ parentPath, name }) => join(parentPath, name))
      .filter((path) => statSync(path).size > 0);
  } catch {
    return null;
  }
}

/** Asks until it is so; the test's own time limit is the only one. */
async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 20));
}

for (const victim of ['driver', 'node', 'head'] as const) {
  test(`kill -9 of the ${victim} leaves no process, arena or folder once the driver is gone`, {
    timeout: 60_000,
  }, async () => {
    const root = mkdtempSync(join(tmpdir(), 'raylite-ends-'));
    const child: ChildProcess = fork(driver, { env: { ...process.env, RAYLITE_TMPDIR: root }, silent: true });
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

test('kill -9 of a driver at any moment of its start leaves no process and no file', { timeout: 120_000 }, async () => {
  const root = mkdtempSync(join(tmpdir(), 'raylite-ends-'));
  const env = { ...process.env, RAYLITE_TMPDIR: root };
  try {
    // One that is not killed says how long a start takes; the others are killed all along that way.
    const begun = performance.now();
    const whole = fork(driver, { env, silent: true });
    await new Promise((resolve) => whole.once('message', resolve));
    const took = performance.now() - begun;
    whole.kill('SIGKILL');
    await Promise.all(
      Array.from({ length: KILLS }, async (_, at) => {
        const child = fork(driver, { env, silent: true });
        await new Promise((resolve) => setTimeout(resolve, ((at + 1) / KILLS) * 2 * took));
        child.kill('SIGKILL');
      }),
    );
    await until(() => processesOf(root).length === 0 && filesBelow(root)?.length === 0);
  } finally {
    for (const pid of processesOf(root)) process.kill(pid, 'SIGKILL');
    rmSync(root, { recursive: true, force: true });
  }
});
