// One object read on eight other machines at once: each is a network namespace with a /dev/shm of its own, all on one switch.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CLI } from '../../test/support/cli.js';
import { Machine } from '../../test/support/machines.js';
import type { OpenScene } from '../harness/figure.js';
import { copyBandwidth } from '../limits/index.js';

export const BROADCAST = 'broadcast of 1 GiB to 8 machines';
const READERS = 8;
const RUN_MS_MAX = 300_000;
const HEAD = '10.78.0.1';
const DRIVER = fileURLToPath(new URL('./broadcast-ours.js', import.meta.url));
const TOKEN = 'a-token-for-the-machines-of-a-bench';

/** GB/s that all readers together receive; needs root, and some 10 GiB of memory. */
export async function openBroadcast(): Promise<OpenScene> {
  const folder = mkdtempSync(join(tmpdir(), 'rlb-'));
  const machines: Machine[] = [];
  const close = async (): Promise<void> => {
    for (const machine of machines) await machine[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  };
  const run = async (machine: Machine, command: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await machine.run([process.execPath, ...command], {
      env: { RAYLITE_TOKEN: TOKEN },
      msMax: RUN_MS_MAX,
    });
    if (code !== 0) throw new Error(`${command.join(' ')} on ${machine.name} ended with ${code}: ${stderr}`);
    return stdout;
  };
  try {
    for (let index = 0; index <= READERS; index += 1)
      machines.push(await Machine.boot(`machine-${index}`, `10.78.0.${index + 1}`, join(folder, String(index))));
    const [head, ...readers] = machines as [Machine, ...Machine[]];
    machines.push(await Machine.boot('switch', '', join(folder, 'switch')));
    await machines.at(-1)!.connectAll([head, ...readers]);
    const small = ['--num-cpus', '1', '--object-store-memory', '1400MiB'];
    await run(head, [CLI, 'start', '--head', '--host', HEAD, ...small]);
    for (const reader of readers) await run(reader, [CLI, 'start', '--address', `${HEAD}:6379`, ...small]);
    return {
      figures: [
        {
          name: BROADCAST,
          unit: 'GB/s',
          isMoreBetter: true,
          goal: { share: 0.1 },
          warmUps: 1,
          rounds: 3,
          ours: async () => JSON.parse(await run(head, [DRIVER])) as { readonly value: number },
          peer: null,
          limit: { name: 'memcpy of one thread', measure: copyBandwidth },
        },
      ],
      peerName: '',
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
