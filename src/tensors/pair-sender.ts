// The side of a pair that has the tensor: it joins and sends as whoever borrows the tensor wishes.
import { EngineError } from '../common/index.js';
import { type NativeDevice, type NativeShare, native } from '../native/index.js';
import { Pair, SENDER } from './pair.js';

/** What a borrower of a shared tensor asks of the process that shared it. A double of a wish changes nothing. */
export type Wish =
  /** To join a pair: in shared memory where there is no address, else by TCP. Answered with this side's address. */
  | { readonly kind: 'join'; readonly pair: string; readonly address: string; readonly secret: string }
  /** To send the tensor by it, as transfer `number` of the pair, counted from 1. */
  | { readonly kind: 'send'; readonly pair: string; readonly number: number };

/** A tensor that can be sent. */
export interface Sendable {
  readonly device: NativeDevice;
  readonly share: NativeShare;
  readonly offsetBytes: number;
  readonly bytes: number;
  /** Where other machines reach this process. */
  readonly host: string;
}

interface End {
  readonly pair: Promise<Pair>;
  readonly address: string;
  sent: number;
}

const ends = new Map<string, End>();

export async function grantWish(text: string, what: Sendable): Promise<string> {
  const wish = JSON.parse(text) as Wish;
  const end = ends.get(wish.pair);
  if (wish.kind === 'join') return (end ?? join(wish, what)).address;
  if (!end) throw new EngineError({ detail: 'the way to the other GPU is gone', rank: null });
  if (wish.number <= end.sent) return '';
  end.sent = wish.number;
  await send(await end.pair, what);
  return '';
}

function join({ pair, address, secret }: Wish & { readonly kind: 'join' }, { device, host }: Sendable): End {
  const forget = () => ends.delete(pair);
  const listening = address === '' ? null : native().listenTcpGroup(host);
  const own = listening ? `${host}:${listening.port}` : '';
  const way = listening
    ? ({ kind: 'tcp', addresses: [own, address], secret, listener: listening.listener } as const)
    : ({ kind: 'shm', name: pair } as const);
  const end = { pair: Pair.join(device, SENDER, way, forget), address: own, sent: 0 };
  ends.set(pair, end);
  end.pair.catch(forget); // told by the other end, or by whoever sends
  return end;
}

async function send(pair: Pair, { device, share, offsetBytes, bytes }: Sendable): Promise<void> {
  const buffer = device.adopt(share);
  try {
    await pair.pass(buffer, offsetBytes, bytes);
  } finally {
    device.free(buffer);
  }
}
