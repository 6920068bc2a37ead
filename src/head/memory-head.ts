// A head without doors, for a cluster inside one process: the same rules, nothing on disk, nobody who could fall silent.
import { Cluster } from './cluster.js';
import { JobLogs } from './job-logs.js';
import { MemoryStore } from './store.js';

export function openMemoryHead(): Promise<Cluster> {
  return Cluster.open({
    store: new MemoryStore(),
    logs: new JobLogs(''), // nobody submits jobs to it
    now: Date.now,
    fatal: (error) => {
      throw error;
    },
  });
}
