// Removes what must not outlive the agent, even when it is killed with SIGKILL: a shell that waits for its end of a pipe.
import { type ChildProcess, spawn } from 'node:child_process';
import { killGroup } from './spawn-bound.js';

// $1 the arena; $2 what was moved out of it; $3 the session folder and $4 the driver of an embedded cluster, whose logs
// stay as long as it runs; behind these the cgroups of its workers, which end with the agent.
const SCRIPT = `read -r _
rm -f "$1"
rm -rf "$2"
session=$3 driver=$4
shift 4
for group in "$@"; do
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    for pid in $(cat "$group"/*/cgroup.procs 2>/dev/null); do kill -9 "$pid"; done
    rmdir "$group"/*/ "$group" 2>/dev/null
    [ -d "$group" ] || break
    sleep 0.2
  done
done
if [ -n "$driver" ]; then
  while [ -d "$session" ] && kill -0 "$driver" 2>/dev/null; do sleep 0.5; done
  rm -rf "$session"
fi`;

export class Guard {
  readonly #shell: ChildProcess;

  constructor(
    arenaPath: string,
    spillFolder: string,
    embedded: { readonly sessionDir: string; readonly driverPid: number } | null,
    cgroups: readonly string[],
  ) {
    const driver = embedded ? String(embedded.driverPid) : '';
    const args = [arenaPath, spillFolder, embedded?.sessionDir ?? '', driver, ...cgroups];
    this.#shell = spawn('/bin/sh', ['-c', SCRIPT, 'raylite-guard', ...args], {
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
      cwd: '/',
    });
    this.#shell.on('error', () => {}); // without a shell the next agent removes what was left
    this.#shell.unref();
  }

  /** The agent has cleaned up itself. */
  dismiss(): void {
    killGroup(this.#shell, 'SIGKILL');
  }
}
