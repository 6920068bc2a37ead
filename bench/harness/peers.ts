// The peers' own Python: a virtual environment under build/, filled from the package registry with the pinned versions.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';

const VENV = 'build/peers/venv';
const REQUIREMENTS = 'bench/peers/requirements.txt';
/** What is set up by means of those. */
const LATER_REQUIREMENTS = 'bench/peers/later-requirements.txt';
const STAMP = `${VENV}/raylite-requirements.txt`;

/** Path of the Python that has the peers; installs them (several GB, once) when they are not there as pinned. */
export function peerPython(): string {
  const wanted = readFileSync(REQUIREMENTS, 'utf8') + readFileSync(LATER_REQUIREMENTS, 'utf8');
  const python = `${VENV}/bin/python`;
  if (existsSync(STAMP) && readFileSync(STAMP, 'utf8') === wanted) return python;
  console.error('bench: installing the peers (several GB, once; --no-peers measures without them) …');
  mkdirSync('build/peers', { recursive: true });
  if (!existsSync(python)) run('python3', ['-m', 'venv', VENV]);
  const install = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '-r'];
  run(python, [...install, REQUIREMENTS]);
  // DeepSpeed's set-up looks at the PyTorch that is there; what it compiles, it compiles when it is used.
  run(python, [...install, LATER_REQUIREMENTS, '--no-build-isolation'], { DS_BUILD_OPS: '0' });
  writeFileSync(STAMP, wanted);
  return python;
}

function run(command: string, args: readonly string[], variables: NodeJS.ProcessEnv = {}): void {
  const env = { ...process.env, ...variables };
  const { status, error } = spawnSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'], env });
  if (error) throw error;
  if (status !== 0) throw new Error(`"${command} ${args.join(' ')}" ended with ${status}`);
}
