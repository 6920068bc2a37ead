// The side of a pair that takes tensors: a pair is made when a device first takes one of another, and kept for the next.
import { randomBytes, randomUUID } from 'node:crypto';
import type { NativeDevice } from '../native/index.js';
import { native } from '../native/index.js';
import { Pair, TAKER } from './pair.js';
import type { Wish } from './pair-sender.js';

/** Asks the process that shared the tensor. */
export type Ask = (wish: Wish) => Promise<string>;

interface End {
  readonly id: string;
  readonly pair: Promise<Pair>;
  transfers: number;
}

/** By device, then by the process that sends and the place of its device. */
const ends = new WeakMap<NativeDevice, Map<string, End>>();

/** The two ends: `sender` names the process and the GPU that have the tensor, `host` is where other machines reach this process; empty: both are on one. */
export interface Ends {
  readonly device: NativeDevice;
  readonly sender: string;
  readonly host: string;
}

/** A buffer of the device with `bytes` of the tensor that is asked for, or why it cannot come by NCCL. */
export async function takeByPair(between: Ends, ask: Ask, bytes: number): Promise<number | string> {
  const { device } = between;
  let buffer: number | null = null;
  try {
    const end = endOf(between, ask);
    const pair = await end.pair;
    if (pair.reason !== null) return pair.reason;
    const own = device.allocate(bytes);
    buffer = own;
    end.transfers += 1;
    // Both at once, so that transfers are asked for in the order in which they are taken.
    const sent = ask({ kind: 'send', pair: end.id, number: end.transfers });
    const taken = pair.pass(own, 0, bytes);
    sent.catch((error: Error) => pair.giveUp(error.message)); // else nothing would ever come
    // The buffer is not given back before the transfer has ended.
    for (const result of await Promise.allSettled([sent, taken])) if (result.status === 'rejected') throw result.reason;
    return own;
  } catch (error) {
    if (buffer !== null) device.free(buffer);
    return error instanceof Error ? error.message : String(error);
  }
}

function endOf({ device, sender, host }: Ends, ask: Ask): End {
  const own = ends.get(device) ?? new Map<string, End>();
  ends.set(device, own);
  const known = own.get(sender);
  if (known) return known;
  const id = `raylite-pair-${randomUUID()}`;
  const forget = (): void => {
    if (own.get(sender) === end) own.delete(sender);
  };
  const end: End = { id, pair: join(device, id, host, ask, forget), transfers: 0 };
  own.set(sender, end);
  end.pair.catch(forget); // told by who waits for it
  return end;
}

async function join(device: NativeDevice, id: string, host: string, ask: Ask, forget: () => void): Promise<Pair> {
  if (host === '') {
    await ask({ kind: 'join', pair: id, address: '', secret: '' });
    return Pair.join(device, TAKER, { kind: 'shm', name: id }, forget);
  }
  const { port, listener } = native().listenTcpGroup(host);
  const address = `${host}:${port}`;
  const secret = randomBytes(32).toString('hex');
  const sender = await ask({ kind: 'join', pair: id, address, secret });
  return Pair.join(device, TAKER, { kind: 'tcp', addresses: [sender, address], secret, listener }, forget);
}
