// The driver's side of the ranks of one attempt: starts them, lets them find each other, asks all of them the same thing, ends them.
import { type ActorHandle, actor, kill, type ObjectRef, type PlacementGroup, placementGroup } from '../client/index.js';
import { EngineError, formatBytes, InfeasibleError } from '../common/index.js';
import type { Mesh } from '../engine/index.js';
import { planJoints } from './plan-joints.js';
import { type RankPlan, type RankReady, TrainRank } from './rank.js';
import type { TrainerSettings } from './trainer-options.js';

export type Rank = ActorHandle<TrainRank>;

export class RankGroup implements AsyncDisposable {
  readonly ranks: readonly Rank[];
  /** How they talk. */
  readonly kind: 'alone' | 'shm' | 'tcp' | 'hierarchical';
  /** Rejects when a rank has ended or stands still, whatever the others do meanwhile. */
  readonly lost: Promise<never>;
  readonly #room: PlacementGroup | null;

  private constructor(ranks: readonly Rank[], kind: RankGroup['kind'], room: PlacementGroup | null) {
    this.ranks = ranks;
    this.lost = new Promise((_resolve, reject) => {
      for (const rank of ranks) rank.watch().then(undefined, reject);
    });
    this.lost.catch(() => {}); // raced by whoever waits for the ranks; at their end nobody asks
    this.kind = kind;
    this.#room = room;
  }

  /** Starts `scaling.workers` actors and joins them in the groups of `mesh`. `name` must be new on every attempt. */
  static async start(scaling: TrainerSettings['scaling'], mesh: Mesh, name: string): Promise<RankGroup> {
    const room = await roomOf(scaling);
    const cpus = scaling.cpusPerWorker;
    const creating = Array.from({ length: scaling.workers }, (_, bundleIndex) =>
      actor(TrainRank, {
        cpus,
        concurrencyGroups: { watch: 1 }, // beside the calls that train, which come one after the other
        methods: { watch: { concurrencyGroup: 'watch' } },
        ...(room && { placementGroup: { group: room, bundleIndex } }),
      }).create(),
    );
    const created = await Promise.allSettled(creating);
    const ranks = created.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    try {
      for (const result of created) if (result.status === 'rejected') throw result.reason;
      const ordered = await byMachine(ranks);
      const joints = await planJoints(ordered, mesh, name);
      await Promise.all(ordered.map((rank, index) => rank.join(joints[index]!, index)));
      const ways = joints.flat().map(({ way }) => way.kind);
      const kind = (['hierarchical', 'tcp', 'shm'] as const).find((way) => ways.includes(way)) ?? 'alone';
      return new RankGroup(ordered, kind, room);
    } catch (error) {
      await endAll(ranks, room);
      throw error;
    }
  }

  /** Asks every rank, in order; resolves with all answers, rejects with the first failure. */
  all<T>(ask: (rank: Rank, index: number) => ObjectRef<T>): Promise<T[]> {
    return Promise.all(this.ranks.map(ask));
  }

  /** Builds the engine of every rank, where all have room, and makes sure that all built the same. */
  async build(plan: Omit<RankPlan, 'rank'>): Promise<RankReady> {
    expectRoom(await this.all((rank) => rank.describe()), plan.memoryBytes);
    const ready = await this.all((rank, index) => rank.build({ ...plan, rank: index }));
    const first = ready[0]!;
    const other = ready.findIndex(({ jobHash }) => jobHash !== first.jobHash);
    if (other > 0)
      throw new EngineError({
        detail: `rank ${other} built another program than rank 0: do all nodes run the same version?`,
        rank: other,
      });
    return first;
  }

  /** Lets the ranks free what they hold, then ends them. */
  async close(): Promise<void> {
    await Promise.allSettled(this.ranks.map((rank) => rank.close()));
    await endAll(this.ranks, this.#room);
  }

  /** Ends the ranks at once. */
  async [Symbol.asyncDispose](): Promise<void> {
    await endAll(this.ranks, this.#room);
  }
}

/** Ranks of one machine follow each other: neighbours in number talk most. */
async function byMachine(ranks: readonly Rank[]): Promise<readonly Rank[]> {
  const places = await Promise.all(ranks.map((rank) => rank.describe()));
  const groups = new Map<string, Rank[]>();
  for (const [index, { nodeId }] of places.entries()) {
    const known = groups.get(nodeId) ?? [];
    groups.set(nodeId, [...known, ranks[index]!]);
  }
  return [...groups.values()].flat();
}

/** Sets the cores of all ranks aside, or waits until that can be: half a group of ranks is of no use. Null: they need none. */
async function roomOf({
  workers,
  cpusPerWorker,
  placement,
}: TrainerSettings['scaling']): Promise<PlacementGroup | null> {
  if (cpusPerWorker === 0) return null;
  const room = await placementGroup({
    bundles: Array.from({ length: workers }, () => ({ cpus: cpusPerWorker })),
    strategy: placement === 'spread' ? 'SPREAD' : 'PACK',
  });
  return await room.ready();
}

/** Throws {@link InfeasibleError} for a node with less free memory than its ranks are about to take. */
function expectRoom(
  places: readonly { readonly nodeId: string; readonly availableBytes: number }[],
  bytes: number,
): void {
  for (const { nodeId, availableBytes } of places) {
    const count = places.filter((place) => place.nodeId === nodeId).length;
    if (count * bytes <= availableBytes) continue;
    throw new InfeasibleError({
      detail: `node ${nodeId} has ${formatBytes(availableBytes)} of free memory, and ${count} worker${count === 1 ? '' : 's'} of this run need${count === 1 ? 's' : ''} ${formatBytes(bytes)}${count === 1 ? '' : ' each'}. Set scaling.memoryMiBPerWorker to ${Math.floor(availableBytes / count / 2 ** 20)}, which computes activations again or says what would fit`,
    });
  }
}

async function endAll(ranks: readonly Rank[], room: PlacementGroup | null): Promise<void> {
  await Promise.allSettled([...ranks.map((rank) => kill(rank)), room?.remove()]);
}
