// Runs the turns of one stage of a pipeline: a program for each part, phase and set of kept activations, and the messages between.
import { EngineError } from '../../common/index.js';
import type { NativeCommunicator, NativeDevice } from '../../native/index.js';
import { DOWNSTREAM, UPSTREAM } from '../autodiff.js';
import type { PipelineWork } from '../compile/pipeline.js';
import { type LinkName, linkOf } from '../mesh.js';
import { RECEIVED, SENT } from '../passes/cut-parts.js';
import type { Strategy } from '../passes/zero.js';
import { readerOf, writerOf } from '../pipeline/messages.js';
import type { Phase, Turn } from '../pipeline/schedule.js';
import type { DeviceBuffers } from './buffers.js';
import type { Communicators } from './communicators.js';
import { Inbox, Outbox } from './mailbox.js';
import { Program } from './program.js';

/** What is done around the programs by whoever knows batches, seeds and clocks. */
export interface TurnWork {
  /** Writes the inputs of a micro-batch that come from outside the pipeline. */
  readonly prepare: (program: Program, micro: number) => void;
  readonly run: (program: Program) => Promise<void>;
  /** Called when a program that has `outputs` of the graph has run. */
  readonly finish: (program: Program, micro: number) => void;
}

/** How long a stage computed, of the seconds from its first turn until its last message had arrived. */
export interface PipelineTimes {
  readonly busySeconds: number;
  readonly seconds: number;
}

type Programs = Readonly<Record<Phase, Program | null>>;

export class PipelineRunner implements Disposable {
  readonly compiled: PipelineWork;
  readonly #strategy: Strategy;
  readonly #communicators: Communicators;
  /** By part, then by set. */
  readonly #programs: readonly (readonly Programs[])[];
  readonly #ownBuffers: DeviceBuffers[] = [];
  readonly #inboxes: Readonly<Record<Phase, Inbox | null>>;
  readonly #outboxes: Readonly<Record<Phase, Outbox | null>>;
  readonly #slots: number[] = [];
  readonly #device: NativeDevice;

  /** `buffers` hold what the plans of `compiled` need once; `table` are the communicators as programs index them. */
  constructor(
    device: NativeDevice,
    compiled: PipelineWork,
    strategy: Strategy,
    buffers: DeviceBuffers,
    communicators: Communicators,
    table: readonly (NativeCommunicator | null)[],
  ) {
    this.compiled = compiled;
    this.#device = device;
    this.#strategy = strategy;
    this.#communicators = communicators;
    this.#programs = compiled.parts.map(({ forward, backward, kept, sets }) =>
      Array.from({ length: sets }, (_, set) => {
        const own = set > 0 && forward.buffers.some(({ name }) => name === kept);
        const those = own ? buffers.withOwn(kept) : buffers;
        if (own) this.#ownBuffers.push(those);
        return {
          forward: new Program(device, forward, those, table),
          backward: backward && new Program(device, backward, those, table),
        };
      }),
    );
    const bytes = compiled.messageBytes;
    const way = (link: NativeCommunicator, slots: number) => ({
      ...{ device, link, bytes },
      slots: Array.from({ length: slots }, () => this.#slot()),
    });
    const inbox = (name: LinkName, slots: number) => {
      const link = communicators[name];
      return link ? new Inbox(way(link, device.isHost ? slots : 0)) : null;
    };
    const outbox = (name: LinkName) => {
      const link = communicators[name];
      return link ? new Outbox(way(link, 1)) : null;
    };
    const { forward, backward } = compiled.inboxSlots;
    this.#inboxes = { forward: inbox('forwardIn', forward), backward: inbox('backwardIn', backward) };
    this.#outboxes = { forward: outbox('forwardOut'), backward: outbox('backwardOut') };
  }

  /** All turns of a step. A failure here or at a neighbour fails all ranks of the job. */
  async run(work: TurnWork): Promise<PipelineTimes> {
    const start = performance.now();
    let busy = 0;
    try {
      for (const phase of ['forward', 'backward'] as const)
        this.#inboxes[phase]?.expect(this.compiled.turns.filter((turn) => this.#reads(turn) === phase).length);
      for (const turn of this.compiled.turns) {
        const program = this.#programOf(turn);
        if (!program) continue;
        work.prepare(program, turn.micro);
        if (this.#reads(turn)) {
          const name = turn.phase === 'forward' ? RECEIVED : UPSTREAM;
          await this.#travelling(turn, 'In', () => this.#inboxes[turn.phase]!.take(program.where(name)));
        }
        const began = performance.now();
        await work.run(program);
        busy += performance.now() - began;
        work.finish(program, turn.micro);
        if (!this.#writes(turn)) continue;
        const name = turn.phase === 'forward' ? SENT : DOWNSTREAM;
        await this.#travelling(turn, 'Out', () => this.#outboxes[turn.phase]!.post(program.where(name)));
      }
      const last = this.compiled.turns.at(-1)!;
      for (const phase of ['forward', 'backward'] as const)
        await this.#travelling({ ...last, phase }, 'Out', async () => this.#outboxes[phase]?.flush());
    } catch (error) {
      // Peers wait for this rank, or for one that waits for it.
      const reason = error instanceof Error ? error.message : String(error);
      for (const communicator of new Set(Object.values(this.#communicators))) communicator?.abort(reason);
      throw error;
    }
    return { busySeconds: busy / 1000, seconds: (performance.now() - start) / 1000 };
  }

  [Symbol.dispose](): void {
    for (const { forward, backward } of this.#programs.flat()) {
      forward?.dispose();
      backward?.dispose();
    }
    for (const buffers of this.#ownBuffers.splice(0)) buffers.dispose();
    for (const id of this.#slots.splice(0)) this.#device.free(id);
  }

  #programOf({ phase, chunk, set }: Turn): Program | null {
    return this.#programs[chunk]![set]![phase];
  }

  /** The phase whose message a turn reads, if it reads one. */
  #reads(turn: Turn): Phase | null {
    const { shape, stage } = this.compiled;
    const name = turn.phase === 'forward' ? RECEIVED : UPSTREAM;
    const program = this.#programOf(turn);
    return program && writerOf(shape, stage, turn) && program.plan.graph.inputs.has(name) ? turn.phase : null;
  }

  #writes(turn: Turn): boolean {
    const { shape, stage } = this.compiled;
    const name = turn.phase === 'forward' ? SENT : DOWNSTREAM;
    return readerOf(shape, stage, turn) !== null && this.#programOf(turn)!.plan.graph.outputs.has(name);
  }

  async #travelling<T>({ phase, micro }: Turn, end: 'In' | 'Out', work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (cause) {
      const { mesh, rank } = this.#strategy;
      const link = linkOf(mesh, rank, `${phase}${end}`)!;
      const peer = link.ranks[1 - link.index]!;
      const way = end === 'In' ? `from rank ${peer}` : `to rank ${peer}`;
      const what = phase === 'forward' ? 'activations' : 'gradients';
      const detail = `${what} of micro-batch ${micro} ${way}: ${(cause as Error).message}`;
      const place = cause instanceof Error && 'rank' in cause && typeof cause.rank === 'number' ? cause.rank : null;
      throw new EngineError({ detail, rank: place === null ? null : link.ranks[place]! }, { cause });
    }
  }

  #slot(): number {
    const id = this.#device.allocate(this.compiled.messageBytes);
    this.#slots.push(id);
    return id;
  }
}
