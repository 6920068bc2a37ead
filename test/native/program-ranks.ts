// Ranks of the tests of programs with collectives: real processes that have joined a group and loaded one plan.
import { native } from '#src/native/index.js';
import { fill, type Sibling } from './comm-data.js';
import { failureOf, Peer as PeerProcess } from './peer-process.js';
import { COUNT, type ProgramRequest, StepProgram } from './program-peer.js';

export const prefix = `raylite-test-program-${process.pid}-`;
let names = 0;

class Peer extends PeerProcess<ProgramRequest> {
  constructor() {
    super(new URL('./program-peer.js', import.meta.url));
  }
}

export interface RankOptions {
  readonly operationTimeoutMs?: number;
  /** Which GPU each rank is on; none: the CPU. */
  readonly gpus?: readonly number[];
}

async function join(peers: readonly Peer[], sibling: Sibling, { operationTimeoutMs = 60_000, gpus }: RankOptions) {
  const listen = (peer: Peer) => (sibling === 'shm' ? '' : peer.ask({ kind: 'listen' }));
  const addresses = await Promise.all(peers.map(listen));
  const name = `${prefix}${names++}`;
  const common = { kind: 'join', sibling, name, addresses, size: peers.length, operationTimeoutMs } as const;
  const joinOf = (rank: number) => ({ ...common, rank, gpu: gpus?.[rank] ?? null });
  await Promise.all(peers.map((peer, rank) => peer.ask(joinOf(rank))));
}

/** New processes that have joined a group and loaded the plan. */
export class Ranks implements AsyncDisposable {
  readonly peers: readonly Peer[];
  private constructor(peers: readonly Peer[]) {
    this.peers = peers;
  }

  static async start(sibling: Sibling, size: number, options: RankOptions = {}): Promise<Ranks> {
    const ranks = new Ranks(Array.from({ length: size }, () => new Peer()));
    await join(ranks.peers, sibling, options);
    return ranks;
  }

  /** Those that are left leave their group and join a new one. */
  async rejoin(peers: readonly Peer[], sibling: Sibling, options: RankOptions = {}): Promise<void> {
    await Promise.all(peers.map((peer) => peer.ask({ kind: 'dispose' })));
    await join(peers, sibling, options);
  }

  /** All ranks run the plan over and over; resolves when `rank` has passed a first run, with the ends of all others. */
  async repeat(rank: number): Promise<readonly Promise<Awaited<ReturnType<typeof failureOf>>>[]> {
    const asked = this.peers.map((peer) => {
      let first = () => {};
      const passed = new Promise<void>((resolve) => {
        first = resolve;
      });
      return { passed, ended: failureOf(peer.ask({ kind: 'repeat' }, () => first())) };
    });
    asked[rank]!.ended.catch(() => {}); // may end with its process
    await asked[rank]!.passed;
    return asked.filter((_, other) => other !== rank).map(({ ended }) => ended);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.peers.map((peer) => peer.kill()));
  }
}

/** The same program on one rank, over the sum of what `size` ranks have. */
export async function alone(size: number): Promise<string> {
  const group = await native().joinShmGroup({ name: `${prefix}${names++}`, rank: 0, size: 1, timeoutMs: 60_000 });
  const device = native().createDevice({ threads: 1, isa: null, pin: false });
  try {
    const total = fill(0, COUNT);
    let scalar = 0.5;
    for (let rank = 1; rank < size; rank++) {
      for (const [i, value] of fill(rank, COUNT).entries()) total[i]! += value;
      scalar += rank + 0.5;
    }
    return await new StepProgram(device, group).run(total, scalar);
  } finally {
    device.dispose();
    group.dispose();
  }
}
