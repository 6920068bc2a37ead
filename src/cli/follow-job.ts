// Shows the output of a job as it comes, across breaks of the connection, until the job has ended.
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { ConnectionError } from '../common/index.js';
import type { JobView } from '../head/index.js';
import type { ClusterApi } from './api.js';
import { EXIT_FAILURE, paint } from './output.js';

const RETRY_MS = 500;
/** The head may be restarted meanwhile. */
const RETRY_MS_MAX = 60_000;
const NORMAL_CLOSURE = 1000;

export const isEnded = (status: string): boolean => ['STOPPED', 'SUCCEEDED', 'FAILED'].includes(status);

/** Writes the job's output from byte `offset` on to stdout; resolves with the job once it has ended. */
export async function followJob(api: ClusterApi, jobId: string, offset = 0): Promise<JobView> {
  let place = offset;
  let brokenSinceMs: number | null = null;
  for (;;) {
    const before = place;
    const end = await tail(api, jobId, place, (chunk) => {
      place += chunk.byteLength;
      process.stdout.write(chunk);
    });
    if (end === 'ended') return api.get<JobView>(`/api/jobs/${encodeURIComponent(jobId)}`);
    if (place > before) brokenSinceMs = null;
    brokenSinceMs ??= Date.now();
    if (Date.now() - brokenSinceMs > RETRY_MS_MAX) {
      const detail = `the connection broke and did not come back. The job may still run: raylite job logs -f ${jobId}`;
      throw new ConnectionError({ address: api.url, detail });
    }
    await sleep(RETRY_MS);
  }
}

function tail(
  api: ClusterApi,
  jobId: string,
  offset: number,
  onChunk: (chunk: Buffer) => void,
): Promise<'ended' | 'broken'> {
  return new Promise((resolve) => {
    const { url, options } = api.socket(`/api/jobs/${encodeURIComponent(jobId)}/logs/tail?offset=${offset}`);
    const ws = new WebSocket(url, options);
    ws.on('message', (data) => onChunk(data as Buffer));
    ws.on('error', () => resolve('broken'));
    ws.on('close', (code) => resolve(code === NORMAL_CLOSURE ? 'ended' : 'broken'));
  });
}

/** Says how the job ended and returns the exit code that stands for it. */
export function tellEnd(job: JobView): number {
  const isGood = job.status === 'SUCCEEDED';
  const why = job.message === '' ? '' : `: ${job.message}`;
  const line = `Job ${job.job_id} ${job.status}${why}`;
  process.stderr.write(`${paint(isGood ? 'green' : 'red', line, process.stderr)}\n`);
  if (isGood) return 0;
  return job.driver_exit_code !== null && job.driver_exit_code > 0 ? job.driver_exit_code : EXIT_FAILURE;
}
