// `raylite timeline`: the calls that ran, as a trace that Chrome and Perfetto show.
import { writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { CallsView, CallView } from '../head/index.js';
import { ClusterApi, type ClusterOptions, withCluster } from './api.js';
import { print, printJson } from './output.js';

interface TimelineOptions extends ClusterOptions {
  readonly output: string;
  readonly job?: string;
  readonly json?: true;
}

/** An event of the trace format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU */
export interface TraceEvent {
  readonly ph: 'X' | 'M';
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  readonly ts?: number; // µs
  readonly dur?: number;
  readonly cat?: string;
  readonly args: Readonly<Record<string, unknown>>;
}

export function register(program: Command): void {
  withCluster(program.command('timeline'))
    .summary('the calls that ran, as a trace for Chrome or Perfetto')
    .description(
      'Writes the calls of tasks and actors that ran, with their times, as a trace for https://ui.perfetto.dev or chrome://tracing. Each node keeps its last 20,000; of a worker that runs more than 1,000 in a second only these are noted.',
    )
    .option('--output <path>', 'file to write', 'raylite-timeline.json')
    .option('--job <id>', 'only calls of this job')
    .option('--json', 'print the trace instead')
    .addHelpText('after', '\nExample:\n  $ raylite timeline --output trace.json')
    .action(async (options: TimelineOptions) => {
      const view = await ClusterApi.find(options).get<CallsView>('/api/calls');
      const calls = view.calls.filter(({ jobId }) => options.job === undefined || jobId === options.job);
      const trace = { traceEvents: traceOf(calls, Date.now()), displayTimeUnit: 'ms' };
      if (options.json) {
        printJson(trace);
        return;
      }
      writeFileSync(options.output, JSON.stringify(trace));
      print(`${calls.length} calls written to ${options.output}: open it at https://ui.perfetto.dev`);
      if (view.omittedCount > 0) print(`${view.omittedCount} calls were too many to keep.`);
      for (const nodeId of view.silentNodes) print(`No answer from node ${nodeId}: its calls are missing.`);
    });
}

/** One lane a worker, grouped by node. A call that runs reaches to now. */
export function traceOf(calls: readonly CallView[], nowMs: number): readonly TraceEvent[] {
  const nodes = new Map<string, number>();
  const events: TraceEvent[] = [];
  const named = new Set<string>();
  for (const call of calls) {
    const node = nodes.get(call.nodeId) ?? nodes.size + 1;
    if (!nodes.has(call.nodeId)) {
      nodes.set(call.nodeId, node);
      events.push({
        ph: 'M',
        name: 'process_name',
        pid: node,
        tid: 0,
        args: { name: `${call.hostname} ${call.nodeId}` },
      });
    }
    if (!named.has(call.workerId)) {
      named.add(call.workerId);
      const name = `${call.kind === 'actor' ? call.name.split('.')[0] : 'tasks'} pid ${call.pid}`;
      events.push({ ph: 'M', name: 'thread_name', pid: node, tid: call.pid, args: { name } });
    }
    const { workerId, jobId, actorId, state } = call;
    events.push({
      ph: 'X',
      name: call.name,
      cat: call.kind,
      pid: node,
      tid: call.pid,
      ts: call.startedAtMs * 1000,
      dur: Math.max(0, (call.endedAtMs ?? nowMs) - call.startedAtMs) * 1000,
      args: { state, workerId, jobId, ...(actorId === null ? {} : { actorId }) },
    });
  }
  return events;
}
