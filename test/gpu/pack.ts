// `npm run test:gpu`: makes build/raylite-gpu.tar.xz, everything that a bare machine with a GPU needs to test and measure the CUDA
// half: Node without its symbols, the addon, the library, the tests in single files, golden cases, the figures and their peer.
// There: tar xf raylite-gpu.tar.xz && raylite-gpu/run [tests|sanitize|bench|all]. Where this machine has a GPU it is run here at once.
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { findCuda, native } from '#src/native/index.js';
import { GOLDEN_FOLDERS, TESTS } from './contents.js';

const FOLDER = 'build/raylite-gpu';
const ARCHIVE = 'build/raylite-gpu.tar.xz';
const MIB_MAX = 60;

/** One file that needs no packages. What is loaded by path (the addon) is named by the environment. */
function bundle(from: string, to: string, flags: readonly string[] = []): void {
  const banner =
    "import{createRequire as raylite_require}from'node:module';const require=raylite_require(import.meta.url);";
  execFileSync('node_modules/.bin/esbuild', [
    from,
    ...['--bundle', '--platform=node', '--format=esm', '--target=node20', '--log-level=error', '--external:*.node'],
    `--banner:js=${banner}`,
    `--outfile=${to}`,
    ...flags,
  ]);
}

function copy(from: string, name: string): void {
  const to = join(FOLDER, name);
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
}

const RUN = `#!/bin/sh
# Tests and measures the CUDA half on this machine: run [tests|sanitize|bench|all]. The last line is the summary.
here=$(cd "$(dirname "$0")" && pwd)
export RAYLITE_NATIVE=$here/native/raylite.node RAYLITE_CUDA_LIBRARY=$here/native/libraylite_cuda.so RAYLITE_TEST_GPU=1
exec "$here/node" "$here/tests/gpu/main.mjs" "$@"
`;

function main(): number {
  const library = 'build/native/libraylite_cuda.so';
  if (!existsSync(library)) {
    console.error(`test:gpu: ${library} is missing: "npm run build:cuda" makes it`);
    return 2;
  }
  rmSync(FOLDER, { recursive: true, force: true });
  copy(process.execPath, 'node');
  copy('build/native/raylite.node', 'native/raylite.node');
  copy(library, 'native/libraylite_cuda.so');
  for (const name of ['node', 'native/raylite.node']) execFileSync('strip', [join(FOLDER, name)]);
  const textless = [`--alias:tokenizers=${resolve('build/tests/test/gpu/no-tokenizers.js')}`];
  for (const test of TESTS) bundle(`build/tests/test/${test}.test.js`, join(FOLDER, `tests/${test}.mjs`), textless);
  bundle('build/tests/test/gpu/main.js', join(FOLDER, 'tests/gpu/main.mjs'));
  bundle('build/tests/test/golden/main.js', join(FOLDER, 'tests/golden/main.mjs'));
  copy('node_modules/tokenizers/tokenizers.linux-x64-gnu.node', 'tests/golden/tokenizers.linux-x64-gnu.node');
  bundle('build/tests/bench/gpu/ours.js', join(FOLDER, 'bench/gpu/ours.mjs'));
  for (const name of ['peer.py', 'peer_models.py', 'shapes.json']) copy(`bench/gpu/${name}`, `bench/gpu/${name}`);
  copy('package.json', 'package.json'); // whose version the code reads, two folders up
  const golden = process.env.RAYLITE_TEST_GOLDEN ?? '../shared/golden';
  const folders = GOLDEN_FOLDERS.filter((name) => existsSync(join(golden, name)));
  for (const name of folders) cpSync(join(golden, name), join(FOLDER, 'golden', name), { recursive: true });
  writeFileSync(join(FOLDER, 'run'), RUN);
  chmodSync(join(FOLDER, 'run'), 0o755);
  execFileSync('tar', ['-C', 'build', '-cJf', ARCHIVE, 'raylite-gpu'], { env: { ...process.env, XZ_OPT: '-6 -T0' } });
  const mib = statSync(ARCHIVE).size / 2 ** 20;
  console.log(`${ARCHIVE}: ${mib.toFixed(1)} MiB, ${TESTS.length} test files, ${folders.length} golden folders`);
  if (mib > MIB_MAX) {
    console.error(`test:gpu: more than ${MIB_MAX} MiB`);
    return 1;
  }
  const { devices, reason } = findCuda(native());
  if (devices.length > 0) return spawnSync(resolve(FOLDER, 'run'), ['tests'], { stdio: 'inherit' }).status ?? 1;
  console.log(`not run here: ${reason}`);
  return 0;
}

process.exitCode = main();
