// `raylite doctor`: whether this machine has what raylite needs, and what it could use besides.
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Command } from 'commander';
import { DEFAULT_HEAD_PORT, DEFAULT_HTTP_PORT, formatBytes, RAYLITE_VERSION } from '../common/index.js';
import { defaultStoreBytes, isOurs, lookAtMachine, type Machine, readCurrent, sessionRoot } from '../launch/index.js';
import { findCuda, type NativeGpuMonitor, native, openGpuMonitor } from '../native/index.js';
import { EXIT_FAILURE, paint, print, printJson } from './output.js';

interface Finding {
  readonly what: string;
  readonly level: 'ok' | 'note' | 'missing';
  readonly detail: string;
}

const NODE_MIN = [20, 19] as const;
const SHM_BYTES_MIN = 256 * 1024 * 1024;

export function register(program: Command): void {
  program
    .command('doctor')
    .summary('check what this machine has')
    .description(
      'Checks Node, the native addon, shared memory, GPUs and ports. Exits with 1 when something needed is missing.',
    )
    .option('--json', 'print the findings as JSON')
    .addHelpText('after', '\nExample:\n  $ raylite doctor')
    .action(async (options: { readonly json?: true }) => {
      const machine = lookAtMachine();
      const findings = [
        nodeVersion(),
        addon(),
        sharedMemory(machine),
        {
          what: 'processors',
          level: 'ok',
          detail: `${machine.cpus} CPUs, ${formatBytes(machine.memoryBytes)} memory`,
        } as const,
        await limits(),
        gpu(machine),
        cuda(machine),
        await port('head port', DEFAULT_HEAD_PORT),
        await port('page port', DEFAULT_HTTP_PORT),
        cluster(),
      ];
      if (options.json) printJson({ version: RAYLITE_VERSION, findings });
      else for (const finding of findings) print(line(finding));
      if (findings.some((finding) => finding.level === 'missing')) process.exitCode = EXIT_FAILURE;
    });
}

function line({ what, level, detail }: Finding): string {
  const sign = { ok: paint('green', 'ok     '), note: paint('yellow', 'note   '), missing: paint('red', 'missing') }[
    level
  ];
  return `${sign}  ${what.padEnd(14)} ${detail}`;
}

function nodeVersion(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const isEnough = major > NODE_MIN[0] || (major === NODE_MIN[0] && minor >= NODE_MIN[1]);
  const detail = isEnough
    ? `v${process.versions.node}`
    : `v${process.versions.node}: raylite needs ${NODE_MIN.join('.')} or later`;
  return { what: 'Node.js', level: isEnough ? 'ok' : 'missing', detail };
}

function addon(): Finding {
  try {
    const { isa, ops, cores } = native().engineInfo();
    return { what: 'native addon', level: 'ok', detail: `${isa}, ${ops.length} ops, ${cores} cores` };
  } catch (error) {
    return { what: 'native addon', level: 'missing', detail: error instanceof Error ? error.message : String(error) };
  }
}

function sharedMemory(machine: Machine): Finding {
  const detail = `/dev/shm: ${formatBytes(machine.shmFreeBytes)} of ${formatBytes(machine.shmTotalBytes)} free, object store ${formatBytes(defaultStoreBytes(machine))} by default`;
  if (machine.shmFreeBytes >= SHM_BYTES_MIN) return { what: 'shared memory', level: 'ok', detail };
  const hint = 'raylite needs 256 MiB; in a container, start it with --shm-size=2g';
  return { what: 'shared memory', level: 'missing', detail: `${detail}. ${hint}` };
}

/** Whether workers can be held to the memory that they ask for. */
async function limits(): Promise<Finding> {
  const { findCgroups } = await import('../node/index.js'); // other verbs do without
  const { version, detail } = findCgroups();
  return version === null
    ? { what: 'limits', level: 'note', detail: `${detail}: "memory" of tasks and actors is counted, not enforced` }
    : { what: 'limits', level: 'ok', detail: `of memory and CPUs, by ${detail}` };
}

function gpu(machine: Machine): Finding {
  if (machine.gpus > 0)
    return { what: 'GPU', level: 'ok', detail: [`${machine.gpus} NVIDIA devices`, ...gpuStates()].join('; ') };
  const hasDriver = existsSync('/proc/driver/nvidia/version');
  return {
    what: 'GPU',
    level: 'note',
    detail: hasDriver ? 'a driver, but no device' : 'no NVIDIA driver: training runs on the CPU',
  };
}

/** What the driver says of each, where it is there. */
function gpuStates(): readonly string[] {
  let monitor: NativeGpuMonitor | null = null;
  try {
    monitor = openGpuMonitor(native());
    return (monitor?.look() ?? []).map(({ name, usedBytes, memoryBytes, eccErrors }) => {
      const errors = eccErrors ? `, ${eccErrors} memory errors that could not be corrected` : '';
      return `${name} with ${formatBytes(usedBytes)} of ${formatBytes(memoryBytes)} in use${errors}`;
    });
  } catch {
    return []; // without the addon, which has a line of its own
  } finally {
    monitor?.dispose();
  }
}

/** What training on a GPU would lack. Nobody else needs it, so that nothing of it is ever `missing`. */
function cuda(machine: Machine): Finding {
  const what = 'CUDA half';
  try {
    const { library, cublasLt, nccl, cudnn, cudart, nvrtc, nvrtcBuiltins, devices, reason } = findCuda(native());
    const isAsked = library !== null && machine.gpus > 0;
    const lacks = isAsked && !cublasLt ? ['cuBLASLt (libcublasLt.so.13) was not found'] : [];
    const slow = isAsked && !nccl ? ['NCCL (libnccl.so.2) was not found: GPUs exchange through the host'] : [];
    const unfound = [
      ...(cudnn ? [] : ['cuDNN (libcudnn.so.9)']),
      ...(cudart ? [] : ['the runtime (libcudart.so.13)']),
      ...(nvrtc && nvrtcBuiltins ? [] : ['NVRTC (libnvrtc.so.13)']),
    ];
    if (isAsked && unfound.length > 0)
      slow.push(`${unfound.join(', ')} not found: attention is by raylite's own kernels alone`);
    const found = devices.map(({ name, memoryBytes }) => `${name} with ${formatBytes(memoryBytes)}`).join(', ');
    const detail = [found || reason, ...lacks, ...slow].join('; ');
    return { what, level: devices.length > 0 && lacks.length === 0 ? 'ok' : 'note', detail };
  } catch {
    return { what, level: 'note', detail: 'needs the native addon' };
  }
}

async function port(what: string, number: number): Promise<Finding> {
  const isFree = await new Promise<boolean>((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(number, '127.0.0.1', () => server.close(() => resolve(true)));
  });
  return {
    what,
    level: isFree ? 'ok' : 'note',
    detail: isFree ? `${number} is free` : `${number} is in use: choose another at "raylite start"`,
  };
}

function cluster(): Finding {
  const root = sessionRoot();
  const current = readCurrent(root);
  const isRunning = current?.pids.some((pid) => isOurs(pid, root)) ?? false;
  return {
    what: 'cluster',
    level: 'ok',
    detail: isRunning ? `running at ${current?.headAddress}` : 'none runs on this machine',
  };
}
