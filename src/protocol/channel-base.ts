// What both carriers share: who listens, frames that came before a receiver was set, closing exactly once.
import { ConnectionError, RayliteError } from '../common/index.js';
import type { Channel, CloseReason } from './channel.js';

export abstract class ChannelBase implements Channel {
  protected readonly peer: string;
  #receiver: ((frame: Uint8Array) => void) | null = null;
  #early: Uint8Array[] = [];
  #closed: CloseReason | null = null;
  readonly #drainListeners: (() => void)[] = [];
  readonly #closeListeners: ((reason: CloseReason) => void)[] = [];

  /** @param peer who is at the other end, for messages */
  constructor(peer: string) {
    this.peer = peer;
  }

  abstract send(frame: Uint8Array): void;
  abstract readonly isCongested: boolean;
  abstract unref(): void;
  /** Ends the carrier after what is queued (`error` null) or at once. */
  protected abstract end(error: RayliteError | null): void;

  get isClosed(): boolean {
    return this.#closed !== null;
  }

  receive(onFrame: (frame: Uint8Array) => void): void {
    this.#receiver = onFrame;
    const early = this.#early;
    this.#early = [];
    for (const frame of early) this.deliver(frame);
  }

  onDrain(listener: () => void): void {
    this.#drainListeners.push(listener);
  }

  onClose(listener: (reason: CloseReason) => void): void {
    const closed = this.#closed;
    if (closed) queueMicrotask(() => listener(closed));
    else this.#closeListeners.push(listener);
  }

  close(detail: string, error: RayliteError | null = null): void {
    if (this.#closed) return;
    this.end(error);
    this.ended({ error, detail });
  }

  protected deliver(frame: Uint8Array): void {
    if (this.#closed) return;
    if (!this.#receiver) {
      this.#early.push(frame);
      return;
    }
    try {
      this.#receiver(frame);
    } catch (cause) {
      this.fail('a frame could not be understood', cause);
    }
  }

  protected drained(): void {
    for (const listener of this.#drainListeners) listener();
  }

  /** Ends the channel because of what the peer or the network did. */
  protected fail(detail: string, cause?: unknown): void {
    const error =
      cause instanceof RayliteError ? cause : new ConnectionError({ address: this.peer, detail }, { cause });
    this.close(detail, error);
  }

  /** The carrier is gone. */
  protected ended(reason: CloseReason): void {
    if (this.#closed) return;
    this.#closed = reason;
    this.#early = [];
    for (const listener of this.#closeListeners) listener(reason);
  }
}
