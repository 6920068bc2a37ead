// What this machine can do right now, measured on a device's own threads: the ceilings that a profile is read against.
import { type NativeDevice, native } from '../../native/index.js';
import { GraphBuilder } from '../builder.js';
import { byteLength } from '../graph.js';
import { plan } from '../plan/plan.js';
import { DeviceBuffers } from './buffers.js';
import type { Limits } from './profile.js';
import { Program } from './program.js';

const PEAK_SECONDS = 0.05;
/** Larger than caches are. */
const READ_BYTES = 256 * 2 ** 20;
const READS = 4;

/** Takes about half a second, and 256 MiB for as long. Cores that others use meanwhile are measured as they are. */
export async function measureLimits(device: NativeDevice, threads: number): Promise<Limits> {
  const { isa } = native().engineInfo();
  const peak = (type: 'f32' | 'bf16') => 1e9 * threads * native().measurePeak(isa, PEAK_SECONDS, type);
  const f32 = peak('f32');
  // f16 is widened on its way into registers.
  return {
    flopsPerSecond: { f32, f16: f32, bf16: peak('bf16') },
    bytesPerSecond: await readBandwidth(device),
  };
}

async function readBandwidth(device: NativeDevice): Promise<number> {
  const builder = new GraphBuilder();
  const numbers = builder.input('numbers', 'f32', [READ_BYTES / 4]);
  builder.op('sum_squares', 'bandwidth', [numbers], { accumulate: 0 });
  const places = new Map([[numbers.id, { buffer: 'numbers', offsetBytes: 0 }]]);
  const sum = plan({ graph: builder.build(), places, buffers: new Map([['numbers', byteLength(numbers)]]) });
  const buffers = new DeviceBuffers(device);
  try {
    buffers.reserve([sum]);
    const program = new Program(device, sum, buffers);
    try {
      program.floats('numbers').fill(1); // pages that were never written are all the same one
      let seconds = Number.POSITIVE_INFINITY;
      for (let read = 0; read < READS; read++) seconds = Math.min(seconds, (await program.profile())[0]!);
      return READ_BYTES / seconds;
    } finally {
      program.dispose();
    }
  } finally {
    buffers.dispose();
  }
}
