// What a process that was killed while it started a cluster leaves goes when the next cluster starts.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { init } from '#src/client/index.js';
import { newProcessName, PACKAGE_ROOT } from '#src/common/index.js';

const COMMON = pathToFileURL(join(PACKAGE_ROOT, 'build/js/common/index.js')).href;

test('boot files of dead processes go, those of live ones stay', async () => {
  const before = process.env.RAYLITE_TMPDIR;
  const root = mkdtempSync(join(tmpdir(), 'rl-starts-'));
  const print = `import { newProcessName } from '${COMMON}'; process.stdout.write(newProcessName());`;
  const dead = execFileSync(process.execPath, ['--input-type=module', '-e', print], { encoding: 'utf8' });
  const write = (folder: string, starter: string): string => {
    mkdirSync(join(root, folder, 'logs'), { recursive: true });
    const path = join(root, folder, `boot-${starter}.json`);
    writeFileSync(path, '{}');
    return path;
  };
  const left = [write('driver-a', dead), write('session-b', dead)];
  const kept = [write('driver-c', newProcessName()), write('session-d', newProcessName()), write('else', dead)];
  process.env.RAYLITE_TMPDIR = root;
  try {
    await using cluster = await init({ address: 'local', numCpus: 1, logToDriver: false });
    assert.ok(cluster.isEmbedded);
    for (const path of left) assert.equal(existsSync(path), false, path);
    for (const path of kept) assert.ok(existsSync(path), path);
    assert.equal(existsSync(join(root, 'driver-a')), false, 'the whole cluster was of the dead process');
    assert.ok(existsSync(join(root, 'session-b', 'logs')), 'logs stay');
  } finally {
    if (before === undefined) delete process.env.RAYLITE_TMPDIR;
    else process.env.RAYLITE_TMPDIR = before;
    rmSync(root, { recursive: true });
  }
});
