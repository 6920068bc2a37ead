// One rank of the collectives' tests: a process that joins groups and runs collectives as it is told.
import { type NativeCommunicator, native } from '#src/native/index.js';
import { digest, fill, type Sibling } from './comm-data.js';
import { serve } from './peer-process.js';

export type Operation = 'allReduceSum' | 'allReduceMax' | 'reduceScatter' | 'allGather' | 'broadcast' | 'barrier';

export type CommRequest =
  | { readonly kind: 'listen' }
  | {
      readonly kind: 'join';
      readonly sibling: Sibling;
      readonly name: string;
      readonly addresses: readonly string[];
      readonly secret: string;
      readonly rank: number;
      readonly size: number;
      readonly timeoutMs: number;
      readonly operationTimeoutMs: number;
    }
  | { readonly kind: 'run'; readonly operation: Operation; readonly count: number; readonly root: number }
  | { readonly kind: 'repeat'; readonly operation: Operation; readonly count: number }
  | { readonly kind: 'abort'; readonly reason: string }
  | { readonly kind: 'dispose' }
  | { readonly kind: 'exitDuringBarrier' };

let listener: object | null = null;
let group: NativeCommunicator | null = null;

async function run(on: NativeCommunicator, operation: Operation, data: Float32Array, root: number): Promise<string> {
  const slice = data.length / on.size;
  switch (operation) {
    case 'allReduceSum':
      await on.allReduce(data, 'sum');
      return digest(data);
    case 'allReduceMax':
      await on.allReduce(data, 'max');
      return digest(data);
    case 'reduceScatter':
      await on.reduceScatter(data);
      return digest(data.subarray(on.rank * slice, (on.rank + 1) * slice));
    case 'allGather':
      await on.allGather(data);
      return digest(data);
    case 'broadcast':
      await on.broadcast(data, root);
      return digest(data);
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
    group =
      request.sibling === 'shm'
        ? await native().joinShmGroup(request)
        : await native().joinTcpGroup({ ...request, listener: listener! });
    return `${group.rank} of ${group.size}`;
  }
  if (!group) throw new Error('join a group first');
  switch (request.kind) {
    case 'run':
      return await run(group, request.operation, fill(group.rank, request.count), request.root);
    case 'repeat':
      for (const data = fill(group.rank, request.count); ; ) await run(group, request.operation, data, 0);
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
