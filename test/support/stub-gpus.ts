// GPUs that a machine without any seems to have, for who asks its management library: a stand-in of that library over a file.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type NativeGpuMonitor, native } from '#src/native/index.js';

export interface StubGpu {
  readonly uuid: string;
  readonly usedBytes?: number;
  /** Not told where it is missing. */
  readonly busyPercent?: number;
  readonly eccErrors?: number;
  readonly xid?: number;
}

const GIB = 2 ** 30;

export class StubGpus implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), 'raylite-gpus-'));
  readonly library = join(this.#folder, 'libnvidia-ml.so.1');
  constructor(gpus: readonly StubGpu[]) {
    this.set(gpus);
    const flags = ['-shared', '-fPIC', '-O1', '-o', this.library, resolve('test/native/nvml-stub.c')];
    execFileSync('cc', flags);
  }

  /** What they are from here on. */
  set(gpus: readonly StubGpu[]): void {
    const lines = gpus.map(({ uuid, usedBytes = GIB / 2, busyPercent = -1, eccErrors = -1, xid = 0 }) =>
      [uuid, 'Stub', 80 * GIB, usedBytes, busyPercent, 40, eccErrors, xid].join(' '),
    );
    writeFileSync(join(this.#folder, 'gpus'), `${lines.join('\n')}\n`);
  }

  /** What a process has to have in its environment that shall see them. */
  get env(): Readonly<Record<string, string>> {
    return { RAYLITE_NVML: this.library, RAYLITE_STUB_GPUS: join(this.#folder, 'gpus') };
  }

  open(): NativeGpuMonitor {
    Object.assign(process.env, this.env);
    return native().openGpuMonitor(this.library);
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
