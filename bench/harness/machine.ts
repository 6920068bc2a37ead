// Names the machine that figures belong to.
import { availableParallelism, cpus, totalmem } from 'node:os';

/** For people: "2 × AMD EPYC 9R45, 24 GiB, Node 20.20.2". */
export function machineName(): string {
  const memoryGiB = Math.round(totalmem() / 2 ** 30);
  return `${availableParallelism()} × ${cpuName()}, ${memoryGiB} GiB, Node ${process.versions.node}`;
}

/** For file names: "2x-amd-epyc-9r45". */
export function machineSlug(): string {
  return `${availableParallelism()}x-${cpuName()}`
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
}

function cpuName(): string {
  const model = cpus()[0]?.model ?? 'unknown CPU';
  return model
    .replace(/\((?:R|TM)\)|\d+-Core|Processor|CPU|@.*$/g, '')
    .replace(/\s+/g, ' ')
    .trim();
}
