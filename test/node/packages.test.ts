// Working directories: packed the same each time, fetched with the token, unpacked only inside their folder.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { create } from 'tar';

import { ConfigError, ConnectionError } from '#src/common/index.js';
import { packDirectory } from '#src/launch/package/index.js';
import { Packages } from '#src/node/packages.js';

async function withServer(bytes: Buffer, run: (url: string, sha256: string) => Promise<void>): Promise<void> {
  const server = createServer((request, reply) => {
    reply.statusCode = request.headers.authorization === 'Bearer secret' ? 200 : 401;
    reply.end(reply.statusCode === 200 ? bytes : undefined);
  });
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
  try {
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    await run(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, sha256);
  } finally {
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  }
}

test('a working directory arrives without what its .gitignore leaves out, and bad packages do not arrive', async () => {
  const root = mkdtempSync(join(tmpdir(), 'raylite-test-'));
  const source = join(root, 'source');
  const session = join(root, 'session');
  try {
    mkdirSync(join(source, 'lib'), { recursive: true });
    mkdirSync(session);
    writeFileSync(join(source, 'main.js'), 'export const x = 1;\n');
    writeFileSync(join(source, 'lib', 'a.js'), 'a');
    writeFileSync(join(source, 'big.bin'), 'b');
    writeFileSync(join(source, '.gitignore'), '*.bin\n');
    const packed = await packDirectory(source, 'workingDir');
    assert.equal((await packDirectory(source, 'workingDir')).sha256, packed.sha256);
    const packages = new Packages(session, 'secret');
    await withServer(packed.archive, async (url, sha256) => {
      assert.equal(sha256, packed.sha256);
      const folder = await packages.ensure(sha256, url);
      assert.deepEqual(readdirSync(folder).sort(), ['.gitignore', 'lib', 'main.js']);
      assert.equal(readFileSync(join(folder, 'lib', 'a.js'), 'utf8'), 'a');
      await assert.rejects(packages.ensure('0'.repeat(64), url), ConfigError);
      await assert.rejects(packages.ensure('../x', url), ConfigError);
      await assert.rejects(new Packages(session, 'wrong').ensure('1'.repeat(64), url), ConnectionError);
    });
    symlinkSync('/etc', join(source, 'lib', 'link'));
    const archive = join(root, 'links.tgz');
    await create({ cwd: source, file: archive, gzip: true }, ['lib']);
    await withServer(readFileSync(archive), async (url, sha256) => {
      await assert.rejects(packages.ensure(sha256, url), ConfigError);
    });
    assert.deepEqual(readdirSync(packages.root).sort(), [packed.sha256, 'node_modules'].sort());
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
