// One rank of the collectives' tests: a process that joins groups and runs collectives as it is told.
import { type NativeCommunicator, native } from '#src/native/index.js';
import { digest, fill, fillBytes, fillHalves, type Joining, joinGroup } from './comm-data.js';
import { serve } from './peer-process.js';

export const OPERATIONS = [
  'allReduceSum',
  'allReduceMax',
  'allReduceBf16',
  'allReduceF16',
  'reduceScatter',
  'reduceScatterBf16',
  'allGather',
  'allToAll',
  'broadcast',
  'sendReceive',
  'barrier',
] as const;
export type Operation = (typeof OPERATIONS)[number];

export type CommRequest =
  | { readonly kind: 'listen' }
  | ({ readonly kind: 'join' } & Joining)
  | { readonly kind: 'run'; readonly operation: Operation; readonly count: number; readonly root: number }
  | { readonly kind: 'repeat'; readonly operation: 'allReduceSum' | 'barrier'; readonly count: number }
  | { readonly kind: 'abort'; readonly reason: string }
  | { readonly kind: 'dispose' }
  | { readonly kind: 'exitDuringBarrier' };

let listener: object | null = null;
let group: NativeCommunicator | null = null;

/** What this rank has afterwards. */
async function run(on: NativeCommunicator, operation: Operation, count: number, root: number): Promise<string> {
  const { rank, size } = on;
  const slice = count / size;
  switch (operation) {
    case 'allReduceSum':
    case 'allReduceMax': {
      const floats = fill(rank, count);
      await on.allReduce(floats, operation === 'allReduceSum' ? 'sum' : 'max');
      return digest(floats);
    }
    case 'allReduceBf16':
    case 'allReduceF16': {
      const type = operation === 'allReduceBf16' ? 'bf16' : 'f16';
      const halves = fillHalves(rank, count, type);
      await on.allReduce(halves, 'sum', type);
      return digest(halves);
    }
    case 'reduceScatter': {
      const floats = fill(rank, count);
      await on.reduceScatter(floats);
      return digest(floats.subarray(rank * slice, (rank + 1) * slice));
    }
    case 'reduceScatterBf16': {
      const halves = fillHalves(rank, count, 'bf16');
      await on.reduceScatter(halves, 'bf16');
      return digest(halves.subarray(rank * slice, (rank + 1) * slice));
    }
    case 'allGather': {
      const bytes = fillBytes(rank, count);
      await on.allGather(bytes);
      return digest(bytes);
    }
    case 'allToAll': {
      const output = new Uint8Array(count);
      await on.allToAll(fillBytes(rank, count), output);
      return digest(output);
    }
    case 'broadcast': {
      const bytes = fillBytes(rank, count);
      await on.broadcast(bytes, root);
      return digest(bytes);
    }
    case 'sendReceive': {
      const received = new Uint8Array(count);
      const [to, from] = [(rank + 1) % size, (rank + size - 1) % size];
      if (size > 1) await on.sendReceive({ send: fillBytes(rank, count), to, receive: received, from });
      return digest(received);
    }
    case 'barrier':
      await on.barrier();
      return 'passed';
  }
}

async function answer(request: CommRequest): Promise<string> {
  if (request.kind === 'listen') {
    const listening = native().listenTcpGroup('127.0.0.1');
    listener = listening.listener;
    return `127.0.0.1:${listening.port}`;
  }
  if (request.kind === 'join') {
    group = await joinGroup(request, listener);
    return `${group.rank} of ${group.size}`;
  }
  if (!group) throw new Error('join a group first');
  switch (request.kind) {
    case 'run':
      return await run(group, request.operation, request.count, request.root);
    case 'repeat':
      for (const data = fill(group.rank, request.count); ; )
        await (request.operation === 'barrier' ? group.barrier() : group.allReduce(data, 'sum'));
    case 'abort':
      group.abort(request.reason);
      return 'aborted';
    case 'dispose':
      group.dispose();
      group.dispose();
      return String(group.bytesSent);
    case 'exitDuringBarrier': {
      const pending = group.barrier();
      setImmediate(() => process.exit(7));
      await pending;
      return 'passed';
    }
  }
}

serve(answer);
