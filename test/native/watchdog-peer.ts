// One rank of the watchdog's tests: a process with several groups that waits in one of them, computes, or does nothing, as it is told.
import { type NativeCommunicator, native, type WatchNews } from '#src/native/index.js';
import { PlanWriter } from '../support/native-plan.js';
import { joinGroup, type Sibling } from './comm-data.js';
import { serve } from './peer-process.js';

export type WatchRequest =
  | { readonly kind: 'listen' }
  | {
      readonly kind: 'join';
      readonly id: string;
      readonly sibling: Sibling;
      readonly name: string;
      readonly addresses: readonly string[];
      readonly rank: number;
      readonly names: readonly number[];
      /** How long a call waits for a rank. */
      readonly operationTimeoutMs: number;
    }
  /** Over all groups joined so far. */
  | { readonly kind: 'watch' }
  /** The next that the watch says. */
  | { readonly kind: 'news' }
  /** A barrier of the group, inside a program or called by itself. */
  | { readonly kind: 'wait'; readonly id: string; readonly isProgram: boolean }
  /** Runs a program that exchanges nothing until a run fails. */
  | { readonly kind: 'compute'; readonly id: string }
  | { readonly kind: 'leave' };

const groups = new Map<string, NativeCommunicator>();
let listeners: object[] = [];
let watch: { dispose(): void } | null = null;
const news: WatchNews[] = [];
let onNews = (): void => {};

/** A program with a product, and a barrier of the group if asked for. */
function load(id: string, hasBarrier: boolean) {
  const device = native().createDevice({ threads: 1, isa: null, pin: false });
  const plan = new PlanWriter();
  const x = plan.tensor([64, 64]);
  plan.op('linear', [x, x], [plan.tensor([64, 64])], [0, 0], { path: 'h.0' });
  if (hasBarrier) plan.op('barrier', [], [], [0], { stream: 1, path: 'h.1' });
  return { device, program: plan.load(device, [groups.get(id)!]).program };
}

async function answer(request: WatchRequest, note: (text: string) => void): Promise<string> {
  switch (request.kind) {
    case 'listen': {
      const { port, listener } = native().listenTcpGroup('127.0.0.1');
      listeners = [...listeners, listener];
      return `127.0.0.1:${port}`;
    }
    case 'join': {
      const { id, sibling, name, addresses, rank, names, operationTimeoutMs } = request;
      const secret = 'open sesame';
      const joining = {
        sibling,
        name,
        addresses,
        secret,
        rank,
        size: names.length,
        names,
        timeoutMs: 60_000,
        operationTimeoutMs,
      };
      groups.set(id, await joinGroup(joining, sibling === 'shm' ? null : listeners.shift()!));
      return 'joined';
    }
    case 'watch':
      watch = native().watchGroups([...groups.values()], (heard) => {
        news.push(heard);
        onNews();
      });
      return 'watching';
    case 'news':
      while (news.length === 0)
        await new Promise<void>((resolve) => {
          onNews = resolve;
        });
      return JSON.stringify(news.shift());
    case 'wait': {
      if (!request.isProgram) {
        await groups.get(request.id)!.barrier();
        return 'passed';
      }
      const { device, program } = load(request.id, true);
      await program.run().finally(() => device.dispose());
      return 'passed';
    }
    case 'compute': {
      const { device, program } = load(request.id, false);
      try {
        for (;;) {
          await program.run();
          note('computed');
        }
      } finally {
        device.dispose();
      }
    }
    case 'leave':
      watch?.dispose();
      for (const group of groups.values()) group.dispose();
      return 'left';
  }
}

serve(answer);
