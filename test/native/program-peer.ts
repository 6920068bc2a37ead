// One rank of the tests of programs with collectives: a process that runs one plan over and over, as it is told.
import { type NativeCommunicator, type NativeDevice, native, type WatchNews } from '#src/native/index.js';
import { openCuda } from '../support/devices.js';
import { type LoadedPlan, PlanWriter, type TensorHandle } from '../support/native-plan.js';
import { digest, fill, joinGroup, type Sibling } from './comm-data.js';
import { serve } from './peer-process.js';

/** Elements that the ranks share out: several chunks of either sibling, with a rest, and of any count of ranks to 4. */
export const COUNT = 12 * 25_001;

export type ProgramRequest =
  | { readonly kind: 'listen' }
  | {
      readonly kind: 'join';
      readonly sibling: Sibling;
      readonly name: string;
      readonly addresses: readonly string[];
      readonly rank: number;
      readonly size: number;
      readonly operationTimeoutMs: number;
      /** On which the rank runs, exchanging by NCCL, and watched over; null: on the CPU. */
      readonly gpu: number | null;
    }
  /** Runs the plan once from fresh data; answers the digests of the gathered and of the reduced values. */
  | { readonly kind: 'run' }
  /** Runs until a run fails, and says after each that it passed. */
  | { readonly kind: 'repeat' }
  /** Starts a run and ends the process in the midst of it. */
  | { readonly kind: 'exit' }
  /** Waits for a message from another rank. */
  | { readonly kind: 'receive'; readonly from: number }
  /** The first that the watch over a rank on a GPU says. */
  | { readonly kind: 'news' }
  | { readonly kind: 'abort'; readonly reason: string }
  | { readonly kind: 'dispose' };

/**
 * What an update does: gradients are summed into slices on the communication stream while the compute stream goes on,
 * slices are doubled and gathered, and a scalar is summed.
 */
export class StepProgram {
  readonly gradients: TensorHandle;
  readonly scalar: TensorHandle;
  readonly loaded: LoadedPlan;

  constructor(device: NativeDevice, group: NativeCommunicator) {
    const plan = new PlanWriter();
    const { rank, size } = group;
    const length = COUNT / size;
    this.gradients = plan.tensor([COUNT]);
    this.scalar = plan.tensor([1]);
    const [busy, copy] = [plan.tensor([512, 512]), plan.tensor([length])];
    const slice = plan.at(this.gradients.offsetBytes + 4 * rank * length, [length]);
    const communicates = { stream: 1, path: 'gradients' } as const;
    const scattered = plan.op('reduce_scatter', [this.gradients], [slice], [0], communicates);
    plan.op('linear', [busy, busy], [plan.tensor([512, 512])], [0, 0]); // meanwhile
    plan.op('copy', [slice], [copy], [], { waits: [scattered] });
    const doubled = plan.op('add', [slice, copy], [slice]);
    plan.op('all_gather', [slice], [this.gradients], [0], { ...communicates, waits: [doubled] });
    const summed = plan.op('all_reduce', [this.scalar], [this.scalar], [0, 0], { stream: 1, path: 'norm' });
    plan.op('barrier', [], [], [0], { stream: 1 });
    plan.op('add', [this.scalar, plan.tensor([1], [1])], [this.scalar], [], { waits: [summed] });
    this.loaded = plan.load(device, [group]);
  }

  /** One run over `gradients` and `scalar`; digests of what both are afterwards. */
  async run(gradients: Float32Array, scalar: number): Promise<string> {
    this.loaded.write(this.gradients, gradients);
    this.loaded.write(this.scalar, [scalar]);
    await this.loaded.program.run();
    return [this.gradients, this.scalar].map((tensor) => digest(this.loaded.view(tensor) as Float32Array)).join(' ');
  }
}

interface Disposing {
  dispose(): void;
}

interface Member {
  readonly device: NativeDevice;
  readonly group: NativeCommunicator;
  readonly watch: Disposing | null;
  readonly news: Promise<WatchNews>;
  readonly step: StepProgram;
}

let listener: object | null = null;
let member: Member | null = null;

async function join(request: ProgramRequest & { readonly kind: 'join' }): Promise<Member> {
  const group = await joinGroup({ ...request, timeoutMs: 60_000, secret: 'open sesame' }, listener);
  if (request.gpu === null) {
    const device = native().createDevice({ threads: 2, isa: null, pin: false });
    const never = new Promise<WatchNews>(() => {});
    return { device, group, watch: null, news: never, step: new StepProgram(device, group) };
  }
  let hear: (news: WatchNews) => void = () => {};
  const news = new Promise<WatchNews>((resolve) => {
    hear = resolve;
  });
  const watch = native().watchGroups([group], (heard) => hear(heard));
  const device = openCuda(request.gpu);
  const reason = await device.join(group, request.operationTimeoutMs);
  if (reason !== null) throw new Error(reason);
  return { device, group, watch, news, step: new StepProgram(device, group) };
}

async function answer(request: ProgramRequest, note: (text: string) => void): Promise<string> {
  if (request.kind === 'listen') {
    const listening = native().listenTcpGroup('127.0.0.1');
    listener = listening.listener;
    return `127.0.0.1:${listening.port}`;
  }
  if (request.kind === 'join') {
    member = await join(request);
    return 'joined';
  }
  if (!member) throw new Error('join a group first');
  const { device, group, watch, news, step } = member;
  const run = () => step.run(fill(group.rank, COUNT), group.rank + 0.5);
  switch (request.kind) {
    case 'run':
      return await run();
    case 'repeat':
      for (;;) {
        await run();
        note('passed');
      }
    case 'exit':
      setImmediate(() => process.exit(7));
      return await run();
    case 'receive': {
      const message = { buffer: device.allocate(64), offset: 0, bytes: 64 };
      await device.pass(group, { ...message, from: request.from });
      return 'received';
    }
    case 'news':
      return JSON.stringify(await news);
    case 'abort':
      group.abort(request.reason);
      return 'aborted';
    case 'dispose':
      device.dispose();
      watch?.dispose();
      group.dispose();
      member = null;
      return 'disposed';
  }
}

serve(answer);
