// Calls, results and the rest of call.proto on a channel. All that is queued in one turn of the event loop leaves as one
// frame; a long turn sends in parts, so that the peer can begin.
import { ConnectionError, PROTOCOL_VERSION } from '../common/index.js';
import type { Channel, CloseReason } from './channel.js';
import { faults } from './faults.js';
import { isSameToken } from './token.js';
import { wire } from './wire.js';

const ITEMS_PER_FRAME = 256;
const INLINE_BYTES_PER_FRAME = 1024 * 1024;

/** What a stream's owner does with what comes. */
export interface FrameHandlers {
  readonly call: (call: wire.Call) => void;
  readonly result: (result: wire.Result) => void;
  readonly resolve: (resolve: wire.Resolve) => void;
  readonly resolved: (resolved: wire.Resolved) => void;
  readonly borrow: (borrow: wire.Borrow) => void;
  readonly borrowed: (ackId: number) => void;
  readonly taken: (callId: number) => void;
  readonly cancel: (cancel: wire.Cancel) => void;
  readonly item: (item: wire.Item) => void;
  readonly consumed: (consumed: wire.Consumed) => void;
  readonly takenItem: (giveId: number) => void;
}

export class FrameStream {
  readonly #channel: Channel;
  #frame = emptyFrame();
  #items = 0;
  #bytes = 0;
  #isScheduled = false;

  constructor(channel: Channel) {
    this.#channel = channel;
  }

  /** Sends our greeting; `token` only where the carrier has not already carried it. */
  greet(from: wire.WorkerAddress.$Properties, token: string | null): void {
    if (faults && this.#isLost('hello')) return;
    this.#frame.hello = { protocol: PROTOCOL_VERSION, from, token: token ?? '' };
    this.#flush();
  }

  /**
   * Takes frames from now on. The first must be the greeting (with the token, unless it is null): anything else closes
   * the stream with a typed error.
   */
  receive(
    token: string | null,
    onHello: (from: wire.WorkerAddress.$Properties) => void,
    handlers: FrameHandlers,
  ): void {
    let isGreeted = false;
    this.#channel.receive((bytes) => {
      const frame = wire.Frame.decode(bytes);
      if (!isGreeted) {
        const hello = frame.hello;
        if (!hello) throw refused('the first frame was no greeting');
        if (token !== null && !isSameToken(hello.token ?? '', token)) throw refused('the cluster token is wrong');
        if (hello.protocol !== PROTOCOL_VERSION)
          throw refused(
            `it speaks protocol ${hello.protocol}, we speak ${PROTOCOL_VERSION}: install the same raylite version everywhere`,
          );
        isGreeted = true;
        onHello(hello.from ?? {});
      }
      for (const item of frame.borrows) handlers.borrow(item as wire.Borrow);
      for (const item of frame.calls) handlers.call(item as wire.Call);
      for (const item of frame.resolves) handlers.resolve(item as wire.Resolve);
      for (const item of frame.items) handlers.item(item as wire.Item);
      for (const item of frame.results) handlers.result(item as wire.Result);
      for (const item of frame.resolved) handlers.resolved(item as wire.Resolved);
      for (const item of frame.borrowed) handlers.borrowed(item);
      for (const item of frame.taken) handlers.taken(item);
      for (const item of frame.takenItems) handlers.takenItem(item);
      for (const item of frame.consumed) handlers.consumed(item as wire.Consumed);
      for (const item of frame.cancels) handlers.cancel(item as wire.Cancel);
    });
  }

  call(call: wire.Call.$Properties, bytes: number): void {
    if (faults && this.#isLost('calls')) return;
    this.#frame.calls.push(call);
    this.#queued(bytes);
  }
  result(result: wire.Result.$Properties, bytes: number): void {
    if (faults && this.#isLost('results')) return;
    this.#frame.results.push(result);
    this.#queued(bytes);
  }
  resolve(resolve: wire.Resolve.$Properties): void {
    if (faults && this.#isLost('resolves')) return;
    this.#frame.resolves.push(resolve);
    this.#queued(0);
  }
  resolved(resolved: wire.Resolved.$Properties, bytes: number): void {
    if (faults && this.#isLost('resolved')) return;
    this.#frame.resolved.push(resolved);
    this.#queued(bytes);
  }
  borrow(borrow: wire.Borrow.$Properties): void {
    if (faults && this.#isLost('borrows')) return;
    this.#frame.borrows.push(borrow);
    this.#queued(0);
  }
  borrowed(ackId: number): void {
    if (faults && this.#isLost('borrowed')) return;
    this.#frame.borrowed.push(ackId);
    this.#queued(0);
  }
  taken(callId: number): void {
    if (faults && this.#isLost('taken')) return;
    this.#frame.taken.push(callId);
    this.#queued(0);
  }
  item(item: wire.Item.$Properties, bytes: number): void {
    if (faults && this.#isLost('items')) return;
    this.#frame.items.push(item);
    this.#queued(bytes);
  }
  consumed(consumed: wire.Consumed.$Properties): void {
    if (faults && this.#isLost('consumed')) return;
    this.#frame.consumed.push(consumed);
    this.#queued(0);
  }
  takenItem(giveId: number): void {
    if (faults && this.#isLost('takenItems')) return;
    this.#frame.takenItems.push(giveId);
    this.#queued(0);
  }
  cancel(cancel: wire.Cancel.$Properties): void {
    if (faults && this.#isLost('cancels')) return;
    this.#frame.cancels.push(cancel);
    this.#queued(0);
  }

  get isClosed(): boolean {
    return this.#channel.isClosed;
  }
  get isCongested(): boolean {
    return this.#channel.isCongested;
  }
  onDrain(listener: () => void): void {
    this.#channel.onDrain(listener);
  }
  onClose(listener: (reason: CloseReason) => void): void {
    this.#channel.onClose(listener);
  }
  unref(): void {
    this.#channel.unref();
  }
  close(detail: string): void {
    if (this.#items > 0) this.#flush();
    this.#channel.close(detail);
  }

  /** A fault of a test may befall the next message of that name; returns whether it is not to be sent. */
  #isLost(field: keyof Batch): boolean {
    const next = faults?.next(`Frame.${field}`);
    if (!next) return false;
    const detail = `a fault of the test: ${field} ${next.fault}`;
    if (next.fault === 'requestLost') this.#channel.close(detail, new ConnectionError({ address: 'a test', detail }));
    else if (next.fault === 'replyLost') setImmediate(() => this.close(detail));
    else if (next.fault === 'doubled') {
      const frame = this.#frame;
      queueMicrotask(() => {
        const messages: unknown[] | wire.Hello.$Properties | null = frame[field];
        if (Array.isArray(messages)) messages.push(...messages.slice(-1));
      });
    }
    return next.fault === 'requestLost';
  }

  #queued(bytes: number): void {
    this.#items += 1;
    this.#bytes += bytes;
    if (this.#items >= ITEMS_PER_FRAME || this.#bytes >= INLINE_BYTES_PER_FRAME) this.#flush();
    else if (!this.#isScheduled) {
      this.#isScheduled = true;
      setImmediate(this.#scheduled);
    }
  }
  readonly #scheduled = (): void => {
    this.#isScheduled = false;
    if (this.#items > 0) this.#flush();
  };

  #flush(): void {
    const frame = this.#frame;
    this.#frame = emptyFrame();
    this.#items = 0;
    this.#bytes = 0;
    this.#channel.send(wire.Frame.encode(frame).finish());
  }
}

type Batch = {
  calls: wire.Call.$Properties[];
  results: wire.Result.$Properties[];
  resolves: wire.Resolve.$Properties[];
  resolved: wire.Resolved.$Properties[];
  borrows: wire.Borrow.$Properties[];
  cancels: wire.Cancel.$Properties[];
  borrowed: number[];
  taken: number[];
  items: wire.Item.$Properties[];
  consumed: wire.Consumed.$Properties[];
  takenItems: number[];
  hello: wire.Hello.$Properties | null;
};
const emptyFrame = (): Batch => ({
  calls: [],
  results: [],
  resolves: [],
  resolved: [],
  borrows: [],
  cancels: [],
  borrowed: [],
  taken: [],
  items: [],
  consumed: [],
  takenItems: [],
  hello: null,
});

const refused = (detail: string): ConnectionError => new ConnectionError({ address: 'a caller', detail });
