// Removes what must not outlive the agent, even when it is killed with SIGKILL: a shell that waits for its end of a pipe.
import { type ChildProcess, spawn } from 'node:child_process';
import { killGroup } from './spawn-bound.js';

// $1 the arena; $2 what was moved out of it; $3 the session folder and $4 the driver of an embedded cluster, whose logs
// stay as long as it runs.
const SCRIPT = `read -r _
rm -f "$1"
rm -rf "$2"
if [ -n "$4" ]; then
  while [ -d "$3" ] && kill -0 "$4" 2>/dev/null; do sleep 0.5; done
  rm -rf "$3"
fi`;

export class Guard {
  readonly #shell: ChildProcess;

  constructor(
    arenaPath: string,
    spillFolder: string,
    embedded: { readonly sessionDir: string; readonly driverPid: number } | null,
  ) {
    const args = [arenaPath, spillFolder, embedded?.sessionDir ?? '', embedded ? String(embedded.driverPid) : ''];
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
