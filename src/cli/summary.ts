// `raylite summary tasks|actors|objects`: how many of what, and how they are.
import type { Command } from 'commander';
import { formatBytes } from '../common/index.js';
import type { ActorView, CallsView, CallView, ObjectsView, ObjectView } from '../head/index.js';
import { ClusterApi, type ClusterOptions, withCluster } from './api.js';
import { millis, print, printJson, table } from './output.js';

type SummaryOptions = ClusterOptions & { readonly json?: true };
type Row = Readonly<Record<string, string | number>>;

export function register(program: Command): void {
  const summary = program
    .command('summary')
    .summary('how many tasks, actors or objects there are, and how they are')
    .description('Counts tasks, actors or objects by name and state.')
    .addHelpText('after', '\nExample:\n  $ raylite summary tasks');
  verb<CallsView>(summary, 'tasks', '/api/calls', ({ calls }) => taskRows(calls.filter(({ kind }) => kind === 'task')));
  verb<ActorView[]>(summary, 'actors', '/api/actors', actorRows);
  verb<ObjectsView>(summary, 'objects', '/api/objects', ({ objects }) => objectRows(objects));
}

function verb<Answer>(summary: Command, what: string, path: string, rowsOf: (answer: Answer) => readonly Row[]): void {
  withCluster(summary.command(what))
    .description(`Counts the ${what} of the cluster.`)
    .option('--json', 'print it as JSON')
    .addHelpText('after', `\nExample:\n  $ raylite summary ${what}`)
    .action(async (options: SummaryOptions) => {
      const rows = rowsOf(await ClusterApi.find(options).get<Answer>(path));
      if (options.json) printJson(rows);
      else if (rows.length === 0) print(`There are no ${what}.`);
      else
        print(
          table(
            Object.keys(rows[0]!).map(heading),
            rows.map((row) => Object.entries(row).map(cell)),
          ),
        );
    });
}

/** "meanMs" as "MEAN". */
const heading = (field: string): string =>
  field
    .replace(/Ms$|Bytes$/, '')
    .replace(/([A-Z])/g, ' $1')
    .toUpperCase();

const cell = ([field, value]: readonly [string, string | number]): string =>
  typeof value === 'string'
    ? value
    : field.endsWith('Ms')
      ? millis(value)
      : field.endsWith('Bytes')
        ? formatBytes(value)
        : String(value);

const by = <T>(items: readonly T[], key: (item: T) => string): readonly (readonly [string, readonly T[]])[] => {
  const groups = new Map<string, T[]>();
  for (const item of items) groups.set(key(item), [...(groups.get(key(item)) ?? []), item]);
  return [...groups].sort(([, a], [, b]) => b.length - a.length);
};
const countOf = <T>(items: readonly T[], is: (item: T) => boolean): number => items.filter(is).length;

export const taskRows = (tasks: readonly CallView[]): readonly Row[] =>
  by(tasks, ({ name }) => name).map(([task, calls]) => {
    const took = calls.flatMap(({ startedAtMs, endedAtMs }) => (endedAtMs === null ? [] : [endedAtMs - startedAtMs]));
    return {
      task,
      running: countOf(calls, ({ state }) => state === 'RUNNING'),
      finished: countOf(calls, ({ state }) => state === 'FINISHED'),
      failed: countOf(calls, ({ state }) => state === 'FAILED'),
      meanMs: took.length === 0 ? 0 : took.reduce((sum, ms) => sum + ms, 0) / took.length,
      longestMs: Math.max(0, ...took),
    };
  });

const actorRows = (actors: readonly ActorView[]): readonly Row[] =>
  by(actors, ({ className }) => className).map(([actor, all]) => ({
    actor,
    alive: countOf(all, ({ state }) => state === 'ALIVE'),
    restarting: countOf(all, ({ state }) => state === 'RESTARTING'),
    pending: countOf(all, ({ state }) => !['ALIVE', 'RESTARTING', 'DEAD'].includes(state)),
    dead: countOf(all, ({ state }) => state === 'DEAD'),
    restarts: all.reduce((sum, { restartCount }) => sum + restartCount, 0),
  }));

const objectRows = (objects: readonly ObjectView[]): readonly Row[] =>
  by(objects, ({ state }) => state).map(([object, all]) => ({
    object,
    count: all.length,
    sizeBytes: all.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    holders: all.reduce((sum, { holders }) => sum + holders.length, 0),
  }));
