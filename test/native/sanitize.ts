// Builds the addon with run-time checks and runs the tests of the native code under them:
//
//   npm run sanitize -- [address|thread] [TEST.js …]
//
// RAYLITE_SANITIZE_ISAS=avx512 checks the kernels of that instruction set alone (scalar, avx2, avx512; several separated
// by semicolons), which builds in a third of the time.
// `address` finds misuse of memory and undefined behaviour, `thread` unordered access to memory by two threads (of our
// own code: Node's is not built for it). The first report ends the test's process, so that its test fails.
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';

const KINDS = {
  address: {
    checks: 'address,undefined',
    library: 'libasan.so',
    // Node keeps memory to its end on purpose; what our code leaks is looked for in /dev/shm and by counting elsewhere.
    options: { ASAN_OPTIONS: 'detect_leaks=0', UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1' },
  },
  thread: {
    checks: 'thread',
    library: 'libtsan.so',
    options: { TSAN_OPTIONS: 'halt_on_error=1:ignore_noninstrumented_modules=1' },
  },
} as const;

function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): number {
  return spawnSync(command, args, { stdio: 'inherit', env }).status ?? 1;
}

function main([kind = 'address', ...files]: readonly string[]): number {
  if (kind !== 'address' && kind !== 'thread') {
    console.error(`sanitize: expected address or thread, got ${kind}`);
    return 2;
  }
  const { checks, library, options } = KINDS[kind];
  const folder = `build/native-${kind}`;
  const configure = ['-S', 'native', '-B', folder, '-DCMAKE_BUILD_TYPE=Release', `-DRAYLITE_SANITIZE=${checks}`];
  const isas = process.env.RAYLITE_SANITIZE_ISAS;
  if (isas) configure.push(`-DRAYLITE_SANITIZE_ISAS=${isas}`);
  const built =
    run('cmake', configure) || run('cmake', ['--build', folder, '-j', String(Math.max(2, availableParallelism()))]);
  if (built !== 0) return built;
  const tests = ['native', 'engine'].flatMap((room) =>
    readdirSync(`build/tests/test/${room}`)
      .filter((name) => name.endsWith('.test.js'))
      .map((name) => `build/tests/test/${room}/${name}`),
  );
  const preload = execFileSync('g++', [`-print-file-name=${library}`], { encoding: 'utf8' }).trim();
  const env = { ...process.env, ...options, LD_PRELOAD: preload, RAYLITE_NATIVE: resolve(folder, 'raylite.node') };
  const args = ['--test', '--test-concurrency=1', ...(files.length > 0 ? files : tests)];
  return run(process.execPath, args, env);
}

process.exitCode = main(process.argv.slice(2));
