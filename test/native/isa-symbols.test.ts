// Kernels are compiled once per instruction set. What the linker may merge (weak symbols) or confuse (global names outside
// of the set's namespace) could put an instruction into a process whose CPU lacks it: the objects must hold neither.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { test } from 'node:test';

const objectsOf = (isa: string) => `build/native/CMakeFiles/cpu_${isa}.dir/cpu`;
const hasNm = spawnSync('nm', ['--version']).status === 0;

for (const isa of ['scalar', 'avx2', 'avx512']) {
  const isBuilt = existsSync(objectsOf(isa));
  const skip = !isBuilt ? `${objectsOf(isa)} is absent` : !hasNm && 'nm is not installed';
  test(`objects for ${isa} define nothing outside of raylite::${isa}`, { skip }, () => {
    const objects = readdirSync(objectsOf(isa)).filter((name) => name.endsWith('.o'));
    assert.ok(objects.length > 10, `${objects.length} objects`);
    const args = ['--defined-only', '--extern-only', '--demangle', '--no-sort', ...objects];
    const { stdout, stderr, status } = spawnSync('nm', args, { cwd: objectsOf(isa), encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    const symbols = [...stdout.matchAll(/^[0-9a-f]+ (\S) (.+)$/gm)].map(([, kind, name]) => ({ kind, name }));
    assert.ok(symbols.length > 20, `${symbols.length} symbols`);
    assert.deepEqual(
      symbols.filter(({ kind, name }) => kind !== 'T' || !name!.startsWith(`raylite::${isa}::`)),
      [],
    );
  });
}
