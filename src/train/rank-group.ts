// The driver's side of the ranks of one attempt: starts them, lets them find each other, asks all of them the same thing, takes in more, ends
// them.
import { type ActorHandle, actor, drainingNodes, kill, type ObjectRef, type PlacementGroup } from '../client/index.js';
import { EngineError, formatBytes, InfeasibleError, type NodeId } from '../common/index.js';
import type { DeviceOptions, Mesh } from '../engine/index.js';
import { collectState, deliverState, type Position } from './hand-over.js';
import { LateRanks } from './late-ranks.js';
import { planJoints } from './plan-joints.js';
import { TrainRank } from './rank.js';
import type { LateNews, RankPlace, RankReady } from './rank-messages.js';
import type { RankPlan } from './rank-plan.js';
import { findFreeRoom, findRoom, type RoomWait, type Seat, seatsOf, usableSeats } from './rank-room.js';
import { type TrainerSettings, threadsOf } from './trainer-options.js';

export type Rank = ActorHandle<TrainRank>;
/** How ranks talk. */
export type GroupKind = 'alone' | 'shm' | 'tcp' | 'hierarchical' | 'nccl';

type Scaling = TrainerSettings['scaling'];

/** What a group asks of its owner. */
export interface GroupOptions {
  readonly scaling: Scaling;
  /** How long a rank that lives may let the others wait. */
  readonly lateMsMax: number;
  readonly onLate: (news: LateNews) => void;
}

export class RankGroup implements AsyncDisposable {
  /** Rejects when a rank has ended or stands still, whatever the others do meanwhile. */
  readonly lost: Promise<never>;
  #reject!: (reason: unknown) => void;
  #ranks: readonly Rank[] = [];
  /** Are done without from the next {@link reshape} on, which ends them. */
  #leavers: readonly Rank[] = [];
  readonly #nodeOf = new Map<Rank, NodeId>();
  readonly #seatOf = new Map<Rank, Seat>();
  /** Of ranks that left. */
  #emptySeats: readonly Seat[] = [];
  /** How often they have joined groups. */
  #generation = 0;
  #kind: GroupKind = 'alone';
  #hostReason: string | null = null;
  readonly #options: GroupOptions;
  readonly #scaling: Scaling;
  readonly #rooms: PlacementGroup[] = [];

  private constructor(options: GroupOptions) {
    this.#options = options;
    this.#scaling = options.scaling;
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
  static async start(options: GroupOptions, counts: readonly number[], wait: RoomWait): Promise<RankGroup> {
    for (;;) {
      const { workers, room } = await findRoom(counts, options.scaling, wait);
      const group = new RankGroup(options);
      try {
        // A node may turn out to be lost meanwhile: fewer workers may still find room.
        const isWhole = await group.#add(room ? seatsOf(room, workers) : workers, room, counts.length > 1);
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
    const threads = threadsOf(this.#scaling);
    const device: DeviceOptions = isOnGpus ? { kind: 'cuda', threads } : { threads };
    await this.all((rank) => rank.open(device));
    await this.#sortByMachine();
    const joints = await planJoints(this.#ranks, mesh, name);
    const reasons = await this.all((rank, index) => rank.join(joints[index]!, index, this.#options.lateMsMax));
    this.#hostReason = reasons.find((reason) => reason !== null) ?? null;
    const ways = joints.flat().map(({ way }) => way.kind);
    const way = (['hierarchical', 'tcp', 'shm'] as const).find((known) => ways.includes(known)) ?? 'alone';
    this.#kind = isOnGpus && way !== 'alone' && this.#hostReason === null ? 'nccl' : way;
    const generation = ++this.#generation;
    // Ranks that leave these groups for others see their peers leave too.
    const failed = (reason: unknown): void => {
      if (generation === this.#generation) this.#reject(reason);
    };
    const late = new LateRanks(this.#options.onLate);
    for (const [index, rank] of this.#ranks.entries()) listen(rank, (news) => late.hear(index, news)).catch(failed);
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
    const seats = await usableSeats(this.#emptySeats);
    const most = own + seats.length;
    const enough = counts.find((count) => count <= most);
    const more = counts.filter((count) => count > most).map((count) => count - most);
    const found = await findFreeRoom(more, this.#scaling);
    if (found !== null) {
      const { workers, room } = found;
      return this.#add(room ? [...seats, ...seatsOf(room, workers)] : workers, room, true);
    }
    return enough !== undefined && (await this.#add(seats.slice(0, enough - own), null, true));
  }

  /** The nodes that are to leave and have ranks on them. */
  get leavingNodes(): ReadonlySet<NodeId> {
    const draining = drainingNodes();
    return new Set(this.#ranks.map((rank) => this.#nodeOf.get(rank)!).filter((nodeId) => draining.has(nodeId)));
  }

  /**
   * Does without the ranks on nodes that are to leave, from the next {@link reshape} on: as many others are put in their place as there is
   * room for now, or the largest of `counts` that the rest comes to goes on. False, with nothing changed, where neither can be.
   */
  async leave(counts: readonly number[]): Promise<boolean> {
    const all = this.#ranks;
    const leaving = this.leavingNodes;
    const stay = all.filter((rank) => !leaving.has(this.#nodeOf.get(rank)!));
    this.#ranks = stay;
    const full = counts.find((count) => count <= all.length);
    const isFull = full !== undefined && full > stay.length && (await this.grow([full]));
    const fewer = counts.find((count) => count <= stay.length);
    if (!isFull) this.#ranks = fewer === undefined ? all : stay.slice(0, fewer);
    this.#leavers = all.filter((rank) => !this.#ranks.includes(rank));
    return this.#leavers.length > 0;
  }

  /** Shares the job out anew among all ranks; `holders`, who are or were ranks, have its state at `position`: it is handed on in memory. */
  async reshape(
    holders: readonly Rank[],
    plan: Omit<RankPlan, 'rank'>,
    position: Position,
    name: string,
  ): Promise<void> {
    await this.#sortByMachine();
    const messages = await collectState(holders, this.#ranks, plan);
    this.#generation++;
    await Promise.all(holders.map((rank) => rank.close()));
    await this.join(plan.mesh, name);
    await this.build(plan);
    await deliverState(this.#ranks, messages, position);
    // Until now the messages of those who leave lay on their nodes.
    const leavers = this.#leavers;
    this.#leavers = [];
    this.#emptySeats = [...this.#emptySeats, ...leavers.flatMap((rank) => this.#seatOf.get(rank) ?? [])];
    await Promise.allSettled(leavers.map((rank) => kill(rank)));
  }

  /** Lets the ranks free what they hold, then ends them. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#ranks.map((rank) => rank.close()));
    await this[Symbol.asyncDispose]();
  }

  /** Ends the ranks at once. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled([
      ...[...this.#ranks, ...this.#leavers].map((rank) => kill(rank)),
      ...this.#rooms.splice(0).map((room) => room.remove()),
    ]);
  }

  /**
   * Starts an actor on every seat, or so many anywhere. `room`, which is new, is given back with them. False, with none of them left, where
   * seats are lost meanwhile and `mayLose`.
   */
  async #add(seats: readonly Seat[] | number, room: PlacementGroup | null, mayLose: boolean): Promise<boolean> {
    const places: readonly (Seat | null)[] =
      typeof seats === 'number' ? Array.from({ length: seats }, () => null) : seats;
    const creating = places.map((seat) =>
      actor(TrainRank, {
        cpus: this.#scaling.cpusPerWorker,
        gpus: this.#scaling.gpusPerWorker,
        concurrencyGroups: { watch: 1 }, // beside the calls that train, which come one after the other
        methods: { watch: { concurrencyGroup: 'watch' } },
        ...(seat && { placementGroup: { group: seat.room, bundleIndex: seat.bundleIndex } }),
      }).create(),
    );
    const created = await Promise.allSettled(creating);
    const failed = created.find((result) => result.status === 'rejected');
    const ranks = created.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    if (failed && mayLose && (await isAnyLost(places))) {
      await Promise.allSettled(ranks.map((rank) => kill(rank)));
      await room?.remove();
      return false;
    }
    if (room) this.#rooms.push(room);
    this.#ranks = [...this.#ranks, ...ranks];
    for (const [index, result] of created.entries()) {
      const seat = places[index];
      if (result.status === 'fulfilled' && seat) this.#seatOf.set(result.value, seat);
    }
    this.#emptySeats = this.#emptySeats.filter((seat) => !places.includes(seat));
    if (failed) throw failed.reason;
    return true;
  }

  /** Ranks of one machine follow each other: neighbours in number talk most. */
  async #sortByMachine(): Promise<void> {
    const places = await this.all((rank) => rank.describe());
    const groups = new Map<string, Rank[]>();
    for (const [index, { nodeId }] of places.entries()) {
      const rank = this.#ranks[index]!;
      this.#nodeOf.set(rank, nodeId);
      groups.set(nodeId, [...(groups.get(nodeId) ?? []), rank]);
    }
    this.#ranks = [...groups.values()].flat();
  }
}

/** Whether resources that were set aside are not any more. */
async function isAnyLost(seats: readonly (Seat | null)[]): Promise<boolean> {
  const rooms = new Set(seats.flatMap((seat) => seat?.room ?? []));
  const infos = await Promise.all([...rooms].map((room) => room.info()));
  return infos.some(({ state }) => state === 'RESCHEDULING');
}

/** Resolves when the rank leaves its groups; rejects when they are broken. */
async function listen(rank: Rank, hear: (news: LateNews) => void): Promise<void> {
  for await (const news of rank.watch().values()) hear(news);
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
