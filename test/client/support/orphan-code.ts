// What the tests of endings run: an actor that starts processes which want to outlive it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';

export class Parent {
  pid(): number {
    return process.pid;
  }
  /** A process in a session of its own. */
  async escapee(): Promise<number> {
    const child = spawn('sleep', ['1000'], { detached: true, stdio: 'ignore' });
    await once(child, 'spawn');
    child.unref();
    return child.pid!;
  }
}
