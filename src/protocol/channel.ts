// What travels between two processes: frames, whole and in order, until one side closes. Knows nothing of messages.
// Three carriers: a Unix socket (socket-channel.ts), a gRPC stream (grpc/channel.ts), and two ends in one process
// (memory-channel.ts, without limits); test/protocol runs one suite on all.
import type { RayliteError } from '../common/index.js';

/** No frame may be larger; a peer that announces more is cut off. Large values travel through the object store. */
export const FRAME_BYTES_MAX = 64 * 1024 * 1024;

/** Bytes that may wait in a carrier before `isCongested` asks the sender to hold back. */
export const QUEUED_BYTES_MAX = 4 * 1024 * 1024;

/** Why a channel ended. `error` is null for an orderly close by either side. */
export interface CloseReason {
  readonly error: RayliteError | null;
  readonly detail: string;
}

export interface Channel {
  /** Sends one frame. After the channel closed this does nothing: whoever waits for an answer learns it from `onClose`. */
  send(frame: Uint8Array): void;
  /** True while the peer reads slower than we send; `onDrain` is called when that is over. Senders of bulk hold back. */
  readonly isCongested: boolean;
  readonly isClosed: boolean;
  /** Sets who receives frames. Frames that came before are delivered at once. A receiver that throws closes the channel. */
  receive(onFrame: (frame: Uint8Array) => void): void;
  onDrain(listener: () => void): void;
  /** Called once. Registered after the end, it is called in the next microtask. */
  onClose(listener: (reason: CloseReason) => void): void;
  /** From now on the channel does not keep this process from ending. */
  unref(): void;
  /** Sends what is queued, then ends. `error` is what our own `onClose` listeners get; the peer sees an orderly close. */
  close(detail: string, error?: RayliteError): void;
}
