// Hears all that goes over the cable of a machine, as an eavesdropper would.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Machine } from './machines.js';

/** Copies every packet of eth0 to a file, one behind the other without what is around their content. */
const SCRIPT = `
import socket, sys
cable = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
cable.setsockopt(socket.SOL_SOCKET, 33, 1 << 28)
cable.bind(("eth0", 0))
print("listening", flush=True)
with open(sys.argv[1], "wb", buffering=0) as heard:
    while True:
        heard.write(cable.recv(1 << 18)[66:])
`;

export class Listener implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #file: string;
  private constructor(process: ChildProcess, file: string) {
    this.#process = process;
    this.#file = file;
  }

  static async on(machine: Machine): Promise<Listener> {
    const file = join(machine.folder, `heard-${process.hrtime.bigint()}`);
    const child = machine.start(['python3', '-c', SCRIPT, file]);
    await once(child.stdout!, 'data');
    return new Listener(child, file);
  }

  heard(): Buffer {
    return readFileSync(this.#file);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await ended;
  }
}
