#!/usr/bin/env node
// Builds the project from a bare clone: packages, wire types, native addon, TypeScript, dashboard page. Each step runs
// only when its inputs changed, so that every npm script may call it first.
//
//   node build.mjs [--quiet] [--tests] [--docs] [--only STEP[,STEP]] [--force]
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(fileURLToPath(import.meta.url));
const args = process.argv.slice(2);
const quiet = args.includes('--quiet');
const force = args.includes('--force');
const only = args.includes('--only') ? args[args.indexOf('--only') + 1].split(',') : null;

/** Every file below `path` (or the file itself), sorted, without generated folders. */
function filesBelow(path, skip = []) {
  const full = join(root, path);
  if (!existsSync(full)) return [];
  if (statSync(full).isFile()) return [path];
  return readdirSync(full, { withFileTypes: true })
    .filter((entry) => !skip.includes(entry.name))
    .flatMap((entry) => filesBelow(join(path, entry.name), skip))
    .sort();
}

function digest(paths, extra = '') {
  const hash = createHash('sha256').update(extra);
  for (const path of paths)
    hash
      .update(path)
      .update('\0')
      .update(readFileSync(join(root, path)))
      .update('\0');
  return hash.digest('hex');
}

function run(command, commandArgs, options = {}) {
  const result = spawnSync(command, commandArgs, {
    cwd: root,
    stdio: ['ignore', quiet ? 'pipe' : 'inherit', quiet ? 'pipe' : 'inherit'],
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    ...options,
  });
  if (result.error?.code === 'ENOENT') {
    fail(
      `${command} was not found. raylite builds with Node 20.19+, a C++17 compiler, make, CMake 3.22+ and Python 3.`,
    );
  }
  if (result.status !== 0) {
    if (quiet) process.stderr.write(`${result.stdout ?? ''}${result.stderr ?? ''}`);
    fail(`"${command} ${commandArgs.join(' ')}" ended with ${result.status ?? result.signal}`);
  }
}

function fail(message) {
  process.stderr.write(`build: ${message}\n`);
  process.exit(1);
}

/** The Python that has NVIDIA's compiler and headers as packages: installed into build/cuda/venv once. Without network: RAYLITE_CUDA_PYTHON. */
function cudaPython() {
  if (process.env.RAYLITE_CUDA_PYTHON) return process.env.RAYLITE_CUDA_PYTHON;
  const venv = join(root, 'build/cuda/venv');
  const python = join(venv, 'bin/python');
  const wanted = digest(['native/cuda/requirements.txt']);
  const stamp = join(venv, 'installed');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return python;
  run('python3', ['-m', 'venv', venv]);
  // Without what they depend on: a frontend draws in other compilers.
  run(python, ['-m', 'pip', 'install', '--quiet', '--no-deps', '-r', 'native/cuda/requirements.txt']);
  writeFileSync(stamp, wanted);
  return python;
}

const bin = (name) => join(root, 'node_modules', '.bin', name);

/** Modules of ours whose functions and classes run as tasks and actors: workers load them, and look for the export. */
const LOADED_BY_WORKERS = [
  'client/queue-actor',
  ...['rank', 'data-tasks', 'evaluate', 'classify-evaluation', 'masked-lm-evaluation', 'quickstart'].map(
    (name) => `train/${name}`,
  ),
];

/**
 * dist/ from build/js/: what package.json exports, the programs of processes, and what workers load. What these
 * share lies once in dist/chunks/: a process starts by reading a dozen files where the rooms have hundreds.
 */
function bundle() {
  const { exports, bin: programs } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const open = [...Object.values(exports).map((entry) => entry.default ?? ''), ...Object.values(programs)];
  const entries = [
    ...open.filter((path) => path.endsWith('.js')).map((path) => relative('dist', path)),
    ...['head', 'node', 'worker', 'local'].map((room) => `${room}/main.js`),
    ...LOADED_BY_WORKERS.map((path) => `${path}.js`),
  ];
  for (const path of filesBelow('dist', ['dashboard'])) if (/\.js(\.map)?$/.test(path)) rmSync(join(root, path));
  run(process.execPath, [
    bin('esbuild'),
    ...entries.map((path) => `build/js/${path}`),
    ...['--bundle', '--splitting', '--packages=external', '--platform=node', '--target=node20', '--format=esm'],
    ...['--outbase=build/js', '--outdir=dist', '--chunk-names=chunks/[name]-[hash]', '--log-level=warning'],
  ]);
}

const steps = [
  {
    name: 'install',
    title: 'installing packages',
    inputs: () => ['package.json', 'package-lock.json'],
    output: 'node_modules/.package-lock.json',
    // No package may run code at install time: everything we need ships its binaries inside its tarball.
    run: () => run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund']),
  },
  {
    name: 'proto',
    title: 'generating wire types',
    inputs: () => filesBelow('proto'),
    output: 'src/protocol/generated/raylite.d.ts',
    run: () => {
      const out = 'src/protocol/generated';
      mkdirSync(join(root, out), { recursive: true });
      const files = filesBelow('proto').filter((path) => path.endsWith('.proto'));
      const flags = [
        '-t',
        'static-module',
        '-w',
        'es6',
        '--no-verify',
        '--no-delimited',
        '--no-typeurl',
        '--no-service',
      ];
      run(process.execPath, [bin('pbjs'), ...flags, '-p', 'proto', '-o', `${out}/raylite.js`, ...files]);
      // Node resolves ESM by exact file name, which protobufjs's own import lacks.
      const code = readFileSync(join(root, out, 'raylite.js'), 'utf8');
      writeFileSync(
        join(root, out, 'raylite.js'),
        code.replace(/from "protobufjs\/minimal(\.js)?"/, 'from "protobufjs/minimal.js"'),
      );
      run(process.execPath, [bin('pbts'), '-o', `${out}/raylite.d.ts`, `${out}/raylite.js`]);
    },
  },
  {
    name: 'native',
    title: 'compiling the native addon (a minute or two, once)',
    inputs: () => filesBelow('native', ['cuda', 'emulate']),
    output: 'build/native/raylite.node',
    run: () => {
      run('cmake', ['-S', 'native', '-B', 'build/native', '-DCMAKE_BUILD_TYPE=Release']);
      run('cmake', ['--build', 'build/native', '-j', String(Math.max(2, availableParallelism()))]);
    },
  },
  {
    name: 'typescript',
    title: 'compiling TypeScript',
    inputs: () => ['tsconfig.json', ...filesBelow('src', ['page']), ...filesBelow('proto')],
    output: 'build/js/client/index.js',
    run: () => {
      run(process.execPath, [bin('tsc'), '-p', 'tsconfig.json']);
      const generated = 'protocol/generated/raylite';
      cpSync(join(root, 'src', `${generated}.js`), join(root, 'build/js', `${generated}.js`));
      cpSync(join(root, 'src', `${generated}.d.ts`), join(root, 'dist', `${generated}.d.ts`));
    },
  },
  {
    name: 'bundle',
    title: 'bundling what users run',
    inputs: () => ['package.json', 'build.mjs', ...filesBelow('src', ['page']), ...filesBelow('proto')],
    output: 'dist/client/index.js',
    run: bundle,
  },
  {
    name: 'page',
    title: 'bundling the dashboard page',
    inputs: () => filesBelow('src/dashboard/page'),
    output: 'dist/dashboard/page/index.html',
    run: () => {
      if (!existsSync(join(root, 'src/dashboard/page/main.tsx'))) return;
      run(process.execPath, [bin('tsc'), '-p', 'src/dashboard/page/tsconfig.json']);
      const out = join(root, 'dist/dashboard/page');
      rmSync(out, { recursive: true, force: true });
      const flags = [
        '--bundle',
        '--minify',
        '--format=esm',
        '--target=es2022',
        '--jsx=automatic',
        '--jsx-import-source=preact',
      ];
      run(process.execPath, [
        bin('esbuild'),
        'src/dashboard/page/main.tsx',
        ...flags,
        `--outfile=${relative(root, join(out, 'main.js'))}`,
      ]);
      cpSync(join(root, 'src/dashboard/page/index.html'), join(out, 'index.html'));
    },
  },
  {
    name: 'cuda',
    title: 'compiling the CUDA half (minutes, once)',
    optIn: '--cuda',
    inputs: () => [...filesBelow('native/cuda'), ...filesBelow('native/core'), 'native/comm/communicator.h'],
    output: 'build/native/libraylite_cuda.so',
    run: () => {
      const python = cudaPython();
      const architectures = process.env.RAYLITE_CUDA_ARCHITECTURES ?? '80,90a,100';
      run('cmake', [
        ...['-S', 'native/cuda', '-B', 'build/cuda/cmake', '-DCMAKE_BUILD_TYPE=Release'],
        ...[`-DRAYLITE_CUDA_PYTHON=${python}`, `-DRAYLITE_CUDA_ARCHITECTURES=${architectures}`],
      ]);
      run('cmake', ['--build', 'build/cuda/cmake', '-j', String(Math.max(2, availableParallelism()))]);
      // What ptxas says of the kernels of each source: test/native/cuda-library.test.ts holds it.
      const logs = filesBelow('build/cuda/cmake').filter((path) => path.endsWith('.ptxas'));
      const text = logs.map((path) => readFileSync(join(root, path), 'utf8')).join('');
      writeFileSync(join(root, 'build/cuda/ptxas.log'), text);
    },
  },
  {
    name: 'docs',
    title: 'writing the API reference',
    optIn: '--docs',
    inputs: () => ['typedoc.json', 'README.md', ...filesBelow('src', ['page', 'generated'])],
    output: 'build/docs/index.html',
    run: () => {
      // Beside the compiler of the project, whose version it cannot read.
      const tools = join(root, 'build/typedoc');
      mkdirSync(tools, { recursive: true });
      const packages = ['typedoc@0.28.20', 'typescript@6.0.3'];
      run('npm', [
        'install',
        '--prefix',
        tools,
        '--ignore-scripts',
        '--no-audit',
        '--no-fund',
        '--no-save',
        ...packages,
      ]);
      run(process.execPath, [join(tools, 'node_modules/typedoc/bin/typedoc'), '--logLevel', 'Warn']);
    },
  },
  {
    name: 'emulated',
    title: 'compiling the CUDA half for the CPU, for tests (a minute, once)',
    optIn: '--tests',
    inputs: () => ['native/emulate', 'native/cuda', 'native/core', 'native/comm'].flatMap((path) => filesBelow(path)),
    output: 'build/emulated/libraylite_cuda.so',
    run: () => {
      run('cmake', ['-S', 'native/emulate', '-B', 'build/emulated', '-DCMAKE_BUILD_TYPE=Release']);
      run('cmake', ['--build', 'build/emulated', '-j', String(Math.max(2, availableParallelism()))]);
    },
  },
  {
    name: 'tests',
    title: 'compiling tests, benches and examples',
    optIn: '--tests',
    inputs: () => [
      ...['test', 'bench', 'examples'].flatMap((path) => filesBelow(path, ['results', '.venv'])),
      'tsconfig.json',
      ...filesBelow('src', ['page']),
    ],
    output: 'build/tests/test',
    run: () => run(process.execPath, [bin('tsc'), '-p', 'test/tsconfig.json']),
  },
];

const stamps = join(root, 'build', 'stamps');
for (const step of steps) {
  if (only ? !only.includes(step.name) : step.optIn && !args.includes(step.optIn)) continue;
  const stamp = join(stamps, step.name);
  const key = digest(step.inputs(), `${process.platform}-${process.arch}`);
  if (!force && existsSync(join(root, step.output)) && existsSync(stamp) && readFileSync(stamp, 'utf8') === key)
    continue;
  const start = performance.now();
  process.stderr.write(`build: ${step.title} …\n`);
  step.run();
  mkdirSync(stamps, { recursive: true });
  writeFileSync(stamp, key);
  process.stderr.write(`build: ${step.name} took ${((performance.now() - start) / 1000).toFixed(1)} s\n`);
}
