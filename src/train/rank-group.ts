// The driver's side of the ranks of one attempt: starts them, lets them find each other, asks all of them the same thing, takes in more, ends
// them.
import { type ActorHandle, actor, kill, type ObjectRef, type PlacementGroup } from '../client/index.js';
import { EngineError, formatBytes, InfeasibleError } from '../common/index.js';
import type { DeviceOptions, Mesh } from '../engine/index.js';
import { collectState, deliverState, type Position } from './hand-over.js';
import { planJoints } from './plan-joints.js';
import { TrainRank } from './rank.js';
import type { RankPlace, RankReady } from './rank-messages.js';
import type { RankPlan } from './rank-plan.js';
import { findFreeRoom, findRoom, type RoomWait } from './rank-room.js';
import { type TrainerSettings, threadsOf } from './trainer-options.js';

export type Rank = ActorHandle<TrainRank>;
/** How ranks talk. */
export type GroupKind = 'alone' | 'shm' | 'tcp' | 'hierarchical' | 'nccl';

type Scaling = TrainerSettings['scaling'];

export class RankGroup implements AsyncDisposable {
  /** Rejects when a rank has ended or stands still, whatever the others do meanwhile. */
  readonly lost: Promise<never>;
  #reject!: (reason: unknown) => void;
  #ranks: readonly Rank[] = [];
  /** How often they have joined groups. */
  #generation = 0;
  #kind: GroupKind = 'alone';
  #hostReason: string | null = null;
  readonly #scaling: Scaling;
  readonly #rooms: PlacementGroup[] = [];

  private constructor(scaling: Scaling) {
    this.#scaling = scaling;
    this.lost = new Promise((_resolve, reject) => {
      this.#reject = reject;
    });
    this.lost.catch(() => {}); // raced by whoever waits for the ranks; at their end nobody asks
  }

  get ranks(): readonly Rank[] {
    return this.#ranks;
  }

  /** How they talk. */
  get kind(): GroupKind {
    return this.#kind;
  }

  /** Why ranks on GPUs exchange through the host in one of their groups; null if they do not, or are on CPUs. */
  get hostReason(): string | null {
    return this.#hostReason;
  }

  /**
   * Starts as many actors as there is room for, the first of `counts` (largest first) that is; for the last of them it waits. Rejects as
   * {@link findRoom} does.
   */
  static async start(scaling: Scaling, counts: readonly number[], wait: RoomWait): Promise<RankGroup> {
    for (;;) {
      const { workers, room } = await findRoom(counts, scaling, wait);
      const group = new RankGroup(scaling);
      try {
        // A node may turn out to be lost meanwhile: fewer workers may still find room.
        const isWhole = await group.#add(workers, room, counts.length > 1);
        if (isWhole) return group;
      } catch (error) {
        await group[Symbol.asyncDispose]();
        throw error;
      }
      await group[Symbol.asyncDispose]();
    }
  }

  /** Lets the ranks find each other in the groups of `mesh`. `name` must be new each time. */
  async join(mesh: Mesh, name: string): Promise<void> {
    const isOnGpus = this.#scaling.gpusPerWorker > 0;
    const device: DeviceOptions = isOnGpus ? { kind: 'cuda' } : { threads: threadsOf(this.#scaling) };
    await this.all((rank) => rank.open(device));
    this.#ranks = await byMachine(this.#ranks);
    const joints = await planJoints(this.#ranks, mesh, name);
    const reasons = await this.all((rank, index) => rank.join(joints[index]!, index));
    this.#hostReason = reasons.find((reason) => reason !== null) ?? null;
    const ways = joints.flat().map(({ way }) => way.kind);
    const way = (['hierarchical', 'tcp', 'shm'] as const).find((known) => ways.includes(known)) ?? 'alone';
    this.#kind = isOnGpus && way !== 'alone' && this.#hostReason === null ? 'nccl' : way;
    const generation = ++this.#generation;
    // Ranks that leave these groups for others see their peers leave too.
    const failed = (reason: unknown): void => {
      if (generation === this.#generation) this.#reject(reason);
    };
    for (const rank of this.#ranks) rank.watch().then(undefined, failed);
  }

  /** Asks every rank, in order; resolves with all answers, rejects with the first failure. */
  all<T>(ask: (rank: Rank, index: number) => ObjectRef<T>): Promise<T[]> {
    return Promise.all(this.#ranks.map(ask));
  }

  /** Builds the engine of every rank, where all have room, and makes sure that all built the same. */
  async build(plan: Omit<RankPlan, 'rank'>): Promise<RankReady> {
    expectRoom(await this.all((rank) => rank.describe()), plan.memory);
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

  /**
   * Starts actors beside those that there are, as many as make the first of `counts` (largest first) that there is room for now. False,
   * with nothing changed, where there is for none. The new ones know nothing before {@link reshape}.
   */
  async grow(counts: readonly number[]): Promise<boolean> {
    const own = this.#ranks.length;
    const found = await findFreeRoom(
      counts.map((count) => count - own),
      this.#scaling,
    );
    return found !== null && (await this.#add(found.workers, found.room, true));
  }

  /** Shares the job out anew among all ranks, of which the first `holders` have its state at `position`: it is handed on in memory. */
  async reshape(
    holders: readonly Rank[],
    plan: Omit<RankPlan, 'rank'>,
    position: Position,
    name: string,
  ): Promise<void> {
    this.#ranks = await byMachine(this.#ranks);
    const messages = await collectState(holders, this.#ranks, plan);
    this.#generation++;
    await Promise.all(holders.map((rank) => rank.close()));
    await this.join(plan.mesh, name);
    await this.build(plan);
    await deliverState(this.#ranks, messages, position);
  }

  /** Lets the ranks free what they hold, then ends them. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#ranks.map((rank) => rank.close()));
    await this[Symbol.asyncDispose]();
  }

  /** Ends the ranks at once. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled([
      ...this.#ranks.map((rank) => kill(rank)),
      ...this.#rooms.splice(0).map((room) => room.remove()),
    ]);
  }

  /** Starts actors in `room`, which is given back with them. False, with none of them left, where it is lost meanwhile and `mayLose`. */
  async #add(workers: number, room: PlacementGroup | null, mayLose: boolean): Promise<boolean> {
    const creating = Array.from({ length: workers }, (_, bundleIndex) =>
      actor(TrainRank, {
        cpus: this.#scaling.cpusPerWorker,
        gpus: this.#scaling.gpusPerWorker,
        concurrencyGroups: { watch: 1 }, // beside the calls that train, which come one after the other
        methods: { watch: { concurrencyGroup: 'watch' } },
        ...(room && { placementGroup: { group: room, bundleIndex } }),
      }).create(),
    );
    const created = await Promise.allSettled(creating);
    const failed = created.find((result) => result.status === 'rejected');
    if (failed && room && mayLose && (await room.info()).state === 'RESCHEDULING') {
      await room.remove(); // ends what was started in it
      return false;
    }
    if (room) this.#rooms.push(room);
    this.#ranks = [
      ...this.#ranks,
      ...created.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : [])),
    ];
    if (failed) throw failed.reason;
    return true;
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

/** Throws {@link InfeasibleError} for a GPU or a node with less memory than its ranks are about to take. */
function expectRoom(places: readonly RankPlace[], { deviceBytes, hostBytes }: RankPlan['memory']): void {
  for (const [rank, { gpu }] of places.entries()) {
    if (gpu === null || deviceBytes <= gpu.memoryBytes) continue;
    throw new InfeasibleError({
      detail: `the GPU of rank ${rank} (${gpu.name}) has ${formatBytes(gpu.memoryBytes)}, and each worker of this run needs ${formatBytes(deviceBytes)}. Set scaling.memoryMiBPerWorker to ${Math.floor(gpu.memoryBytes / 2 ** 20)}, which computes activations again or says what would fit`,
    });
  }
  for (const { nodeId, availableBytes, gpu } of places) {
    const bytes = hostBytes + (gpu ? 0 : deviceBytes);
    const count = places.filter((place) => place.nodeId === nodeId).length;
    if (count * bytes <= availableBytes) continue;
    throw new InfeasibleError({
      detail: `node ${nodeId} has ${formatBytes(availableBytes)} of free memory, and ${count} worker${count === 1 ? '' : 's'} of this run need${count === 1 ? 's' : ''} ${formatBytes(bytes)}${count === 1 ? '' : ' each'}. Set scaling.memoryMiBPerWorker to ${Math.floor(availableBytes / count / 2 ** 20)}, which computes activations again or says what would fit`,
    });
  }
}
