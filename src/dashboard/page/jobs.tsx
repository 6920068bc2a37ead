// The jobs, newest first; a row opens to the job's output. Work that waits for room is named with the reason.
import { useEffect, useRef, useState } from 'preact/hooks';
import { seconds } from './format.js';
import { ask, type JobView, type Pending } from './live.js';
import { Panel, State } from './parts.js';

export function JobsTable(props: { readonly jobs: readonly JobView[]; readonly pending: readonly Pending[] }) {
  const [openId, setOpenId] = useState<string | null>(null);
  const pending = props.pending.filter((item) => item.kind !== 'job'); // a job that waits says so in its row
  const running = props.jobs.filter((job) => job.status === 'RUNNING').length;
  return (
    <Panel title="Jobs" note={`${running} running`}>
      {pending.length > 0 && (
        <ul class="pending">
          {pending.map((item, index) => (
            <li key={`${item.what}-${index}`}>
              <State name="PENDING" /> {item.kind} {item.what} {item.reason}
            </li>
          ))}
        </ul>
      )}
      {props.jobs.length === 0 ? (
        <p class="empty">
          No job yet. <code>raylite job submit --working-dir . -- node main.js</code> runs one.
        </p>
      ) : (
        <div class="scroll">
          <table>
            <thead>
              <tr>
                <th scope="col">Job</th>
                <th scope="col">Status</th>
                <th scope="col">Took</th>
                <th scope="col">Entrypoint</th>
                <th scope="col">Output</th>
              </tr>
            </thead>
            <tbody>
              {props.jobs.map((job) => (
                <JobRow
                  key={job.job_id}
                  job={job}
                  isOpen={openId === job.job_id}
                  toggle={() => setOpenId(openId === job.job_id ? null : job.job_id)}
                />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Panel>
  );
}

function JobRow(props: { readonly job: JobView; readonly isOpen: boolean; readonly toggle: () => void }) {
  const { job } = props;
  const took = job.start_time === null ? '–' : seconds(((job.end_time ?? Date.now()) - job.start_time) / 1000);
  return (
    <>
      <tr>
        <td class="mono">{job.job_id}</td>
        <td>
          <State name={job.status} />
        </td>
        <td class="number">{took}</td>
        <td class="mono command" title={job.entrypoint}>
          {job.entrypoint}
          {job.message && <div class="why">{job.message}</div>}
        </td>
        <td>
          {job.type === 'SUBMISSION' ? (
            <button
              type="button"
              aria-expanded={props.isOpen}
              aria-label={`Output of ${job.job_id}`}
              onClick={props.toggle}
            >
              {props.isOpen ? 'Hide' : 'Show'}
            </button>
          ) : (
            <span class="dim">its own terminal</span>
          )}
        </td>
      </tr>
      {props.isOpen && (
        <tr>
          <td colSpan={5}>
            <JobOutput jobId={job.job_id} status={job.status} />
          </td>
        </tr>
      )}
    </>
  );
}

/** Characters of output that stay in the page. */
const OUTPUT_LENGTH_MAX = 500_000;

function JobOutput(props: { readonly jobId: string; readonly status: string }) {
  const [text, setText] = useState('');
  const [problem, setProblem] = useState<string | null>(null);
  const box = useRef<HTMLPreElement>(null);
  useEffect(() => {
    const decoder = new TextDecoder();
    const path = `/api/jobs/${encodeURIComponent(props.jobId)}/logs/tail`;
    const socket = new WebSocket(`${location.origin.replace(/^http/, 'ws')}${path}`);
    socket.binaryType = 'arraybuffer';
    socket.onmessage = (event) => {
      const more = decoder.decode(event.data as ArrayBuffer, { stream: true });
      setText((before) => (before + more).slice(-OUTPUT_LENGTH_MAX));
    };
    return () => socket.close();
  }, [props.jobId]);
  useEffect(() => {
    if (box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [text]);
  const stop = (): void => {
    ask(`/api/jobs/${encodeURIComponent(props.jobId)}/stop`, 'POST').catch((error: Error) => setProblem(error.message));
  };
  return (
    <div class="output">
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling box must be reachable by keyboard */}
      <pre ref={box} tabIndex={0} role="log" aria-label={`Output of ${props.jobId}`}>
        {text || 'No output yet.'}
      </pre>
      {(props.status === 'RUNNING' || props.status === 'PENDING') && (
        <button type="button" onClick={stop}>
          Stop this job
        </button>
      )}
      {problem && <p role="alert">{problem}</p>}
    </div>
  );
}
