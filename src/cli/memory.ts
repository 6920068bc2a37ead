// `raylite memory`: which objects there are, where their bytes lie, and who holds them and why.
import { type Command, Option } from 'commander';
import { formatBytes } from '../common/index.js';
import type { HolderView, ObjectsView, ObjectView, ProcessView } from '../head/index.js';
import { ClusterApi, type ClusterOptions, withCluster } from './api.js';
import { paint, print, printJson, table } from './output.js';

interface MemoryOptions extends ClusterOptions {
  readonly json?: true;
  readonly sortBy: 'size' | 'count';
  readonly groupBy?: 'node' | 'owner' | 'call-site';
}

interface Group {
  readonly name: string;
  readonly objects: ObjectView[];
}

export function register(program: Command): void {
  withCluster(program.command('memory'))
    .summary('objects, where they lie, who holds them and why')
    .description(
      'Shows the objects of the cluster: size, where the bytes lie, owner, who holds a ref and why. Small values that were never passed on, and call sites, are known only of processes started with RAYLITE_RECORD_CALL_SITES=1.',
    )
    .addOption(
      new Option('--sort-by <what>', 'largest first, or those with most references first')
        .choices(['size', 'count'])
        .default('size'),
    )
    .addOption(new Option('--group-by <what>', 'with totals of each').choices(['node', 'owner', 'call-site']))
    .option('--json', 'print everything as JSON')
    .addHelpText('after', '\nExample:\n  $ raylite memory --group-by owner')
    .action(async (options: MemoryOptions) => {
      const view = await ClusterApi.find(options).get<ObjectsView>('/api/objects');
      if (options.json) printJson(view);
      else show(view, options);
    });
}

function show(view: ObjectsView, { sortBy, groupBy }: MemoryOptions): void {
  print(
    table(
      ['NODE', 'HOST', 'ARENA', 'SPILLED', 'OBJECTS'],
      view.nodes.map((node) => [
        node.nodeId,
        node.hostname,
        `${formatBytes(node.arenaUsedBytes)}/${formatBytes(node.arenaTotalBytes)}`,
        formatBytes(node.spilledBytes),
        String(view.objects.filter(({ places }) => places.some(({ nodeId }) => nodeId === node.nodeId)).length),
      ]),
    ),
  );
  const weight = ({ objects }: Group): number =>
    sortBy === 'size' ? bytesOf(objects) : objects.reduce((sum, object) => sum + referenceCount(object), 0);
  for (const group of grouped(view.objects, groupBy).sort((a, b) => weight(b) - weight(a))) {
    print();
    const total = `${group.objects.length} objects, ${formatBytes(bytesOf(group.objects))}`;
    print(paint('bold', group.name === '' ? total : `${group.name}: ${total}`));
    const sorted =
      sortBy === 'size' ? group.objects : group.objects.sort((a, b) => referenceCount(b) - referenceCount(a));
    if (sorted.length > 0) print(objectTable(sorted));
  }
  for (const { name, pid, nodeId } of view.silentProcesses)
    print(`No answer from ${name} (pid ${pid} on node ${nodeId}), which is busy: what it holds is missing above.`);
  for (const nodeId of view.silentNodes) print(`No answer from node ${nodeId}: what is there is missing above.`);
  if (view.omittedCount > 0) print(`${view.omittedCount} smaller entries are left out.`);
}

function grouped(objects: readonly ObjectView[], by: MemoryOptions['groupBy']): Group[] {
  const groups = new Map<string, Group>();
  for (const object of objects) {
    const names =
      by === undefined
        ? ['']
        : by === 'owner'
          ? [processName(object.owner)]
          : by === 'call-site'
            ? [object.callSite ?? 'unknown call site']
            : [...new Set(object.places.map(({ nodeId }) => `node ${nodeId}`))];
    // Without bytes anywhere: a call that has not been answered.
    for (const name of names.length > 0 ? names : ['nowhere yet']) {
      const group = groups.get(name) ?? { name, objects: [] };
      group.objects.push(object);
      groups.set(name, group);
    }
  }
  return [...groups.values()];
}

/** One line for each process that holds an object; of `raylite list objects` one for each object. */
function objectTable(objects: readonly ObjectView[]): string {
  return table(
    ['OBJECT', 'SIZE', 'WHERE', 'OWNER', 'HELD BY', 'WHY', 'CALL SITE'],
    objects.flatMap((object) => {
      const own = [object.objectId, sizeOf(object), placesOf(object), processName(object.owner)];
      const site = object.callSite ?? '-';
      if (object.holders.length === 0) return [[...own, 'nobody', 'its bytes are still there', site]];
      return object.holders.map((holder) => [...own, processName(holder), why(holder).join(', '), site]);
    }),
  );
}

/** Why a process holds an object, in words. */
function why(holder: HolderView): string[] {
  const reasons: string[] = [];
  if (holder.isReferenced) reasons.push(holder.isBorrower ? 'borrowed' : 'local');
  if (holder.lentCount > 0) reasons.push(`lent ×${holder.lentCount}`);
  if (holder.argumentCount > 0) reasons.push(`argument ×${holder.argumentCount}`);
  if (holder.isMapped) reasons.push('mapped');
  for (const id of holder.capturedIn) reasons.push(`captured in ${id}`);
  return reasons.length > 0 ? reasons : ['released, not collected yet'];
}

const referenceCount = ({ holders }: ObjectView): number =>
  holders.reduce(
    (sum, { isReferenced, argumentCount, isMapped, capturedIn }) =>
      sum + Number(isReferenced) + argumentCount + Number(isMapped) + capturedIn.length,
    0,
  );
const bytesOf = (objects: readonly ObjectView[]): number => objects.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
const processName = ({ name, pid, nodeId }: ProcessView): string =>
  nodeId === null ? `${name} (gone)` : `${name} pid ${pid} on ${nodeId.slice(0, 6)}`;
const sizeOf = ({ sizeBytes, state }: ObjectView): string => (state === 'pending' ? '-' : formatBytes(sizeBytes));

/** "arena on 1f2e3d, copy on 4c5b6a"; of what has no bytes its state. */
const placesOf = ({ places, state }: ObjectView): string =>
  places.map(({ nodeId, place }) => `${place} on ${nodeId.slice(0, 6)}`).join(', ') || state;

/** `raylite list objects`. */
export const objectList = (objects: readonly ObjectView[]): string =>
  table(
    ['OBJECT', 'STATE', 'SIZE', 'WHERE', 'OWNER', 'HOLDERS', 'CALL SITE'],
    objects.map((object) => [
      object.objectId,
      object.state,
      sizeOf(object),
      placesOf(object),
      processName(object.owner),
      String(object.holders.length),
      object.callSite ?? '-',
    ]),
  );
