// What is uploaded of a working directory.
import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { list } from 'tar';
import { packDirectory } from '#src/launch/package/index.js';
import { temporaryFolder } from '../support/temporary-folder.js';

function write(root: string, files: Readonly<Record<string, string>>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), text);
  }
}

async function namesIn(archive: Buffer): Promise<string[]> {
  const names: string[] = [];
  const parser = list({ onReadEntry: (entry) => names.push(entry.path) });
  await new Promise<void>((resolve, reject) => {
    parser.on('end', resolve);
    parser.on('error', reject);
    parser.end(archive);
  });
  return names.sort();
}

test('ignored files, .git, node_modules and links stay here', async () => {
  using dir = temporaryFolder();
  write(dir.path, {
    'main.js': '1',
    'lib/a.js': '2',
    'lib/.gitignore': 'secret-*\n!secret-kept.js\n',
    'lib/secret-key.js': 'x',
    'lib/secret-kept.js': '3',
    'out/big.bin': 'x',
    'notes.log': 'x',
    '.git/config': 'x',
    'node_modules/a/index.js': 'x',
    '.gitignore': 'out/\n',
    '.rayliteignore': '*.log\n',
  });
  symlinkSync('/etc/passwd', join(dir.path, 'link'));
  const { archive } = await packDirectory(dir.path, '--working-dir');
  assert.deepEqual(await namesIn(archive), [
    '.gitignore',
    '.rayliteignore',
    'lib/.gitignore',
    'lib/a.js',
    'lib/secret-kept.js',
    'main.js',
  ]);
});

test('the same content gives the same package, whatever its times', async () => {
  using one = temporaryFolder();
  using two = temporaryFolder();
  for (const dir of [one, two]) write(dir.path, { 'main.js': 'a', 'lib/b.js': 'b' });
  utimesSync(join(two.path, 'main.js'), 1, 1);
  assert.equal(
    (await packDirectory(one.path, '--working-dir')).sha256,
    (await packDirectory(two.path, '--working-dir')).sha256,
  );
  write(two.path, { 'main.js': 'changed' });
  assert.notEqual(
    (await packDirectory(one.path, '--working-dir')).sha256,
    (await packDirectory(two.path, '--working-dir')).sha256,
  );
});

test('a folder that is missing or empty is named', async () => {
  using dir = temporaryFolder();
  await assert.rejects(
    packDirectory(join(dir.path, 'nope'), '--working-dir'),
    /^ConfigError: --working-dir: expected a folder that exists/,
  );
  await assert.rejects(packDirectory(dir.path, '--working-dir'), /expected a folder with files that are not ignored/);
});
