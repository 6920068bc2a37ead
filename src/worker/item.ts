// One call that came, from its arrival to its answer; and the groups in which calls take turns.
import type { CallContext, PeerLink, Runtime } from '../client/process/index.js';
import { CancelledError } from '../common/index.js';
import type { wire } from '../protocol/index.js';

export type Callable = (...args: unknown[]) => unknown;

export class Item implements CallContext {
  readonly runtime: Runtime;
  readonly call: wire.Call;
  readonly from: PeerLink;
  args: unknown[] | null = null; // null while they are fetched
  run: Callable | null = null;
  self: unknown = undefined;
  name = '';
  failure: Error | null = null;
  isApplicationFailure = false;
  /** Settles when the owners of the refs in the arguments know that we borrow them; no answer goes before. */
  acks: Promise<unknown> | null = null;
  isCancelled = false;
  /** Of a generator: how many items its caller's code has taken. */
  consumed: number;
  #abort: AbortController | null = null; // made when its code asks for it
  #children: CallContext['children'] = null;
  #changed: (() => void) | null = null;

  constructor(call: wire.Call, from: PeerLink, runtime: Runtime) {
    this.runtime = runtime;
    this.call = call;
    this.from = from;
    this.consumed = call.stream?.consumed ?? 0;
  }

  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.isCancelled) this.#abort.abort(new CancelledError({ taskId: null }));
    return this.#abort.signal;
  }
  get children(): NonNullable<CallContext['children']> {
    this.#children ??= new Set();
    return this.#children;
  }

  cancel(keepsChildren: boolean): void {
    this.isCancelled = true;
    this.#abort?.abort(new CancelledError({ taskId: null }));
    if (!keepsChildren) for (const child of this.#children ?? []) child.cancel({});
    this.#changed?.();
  }
  took(count: number): void {
    this.consumed = Math.max(this.consumed, count);
    this.#changed?.();
  }
  /** Resolves when it is cancelled, or items were taken. */
  changed(): Promise<void> {
    return new Promise((resolve) => {
      this.#changed = resolve;
    });
  }
}

/** Calls of which so many may run at a time. */
export class Group {
  readonly max: number;
  /** Calls of one caller that wait for arguments, or behind one that does, in order. */
  readonly lanes = new Map<PeerLink, Item[]>();
  readonly ready: Item[] = [];
  running = 0;

  constructor(max: number) {
    this.max = Math.max(1, max);
  }
}
