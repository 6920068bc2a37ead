// The public face of an object: `ObjectRef<T>`, awaitable, passed on unfetched wherever a T is expected.
import { inspect } from 'node:util';
import type { ObjectId } from '../common/index.js';
import type { ObjectState } from './object-state.js';

/** How a ref reaches the process it lives in. */
export interface RefKeeper {
  read(state: ObjectState): Promise<unknown>;
  letGo(state: ObjectState): void;
}

/**
 * A reference to a value that a task, an actor or `put` makes or made. `await` it for the value, or pass it as an argument:
 * then it goes to where it is needed without passing here. The object lives as long as any process holds a ref to it;
 * `using` or `release()` lets go earlier than the garbage collector would.
 */
export class ObjectRef<T> implements PromiseLike<T>, Disposable {
  readonly #state: ObjectState;
  readonly #keeper: RefKeeper;

  /** Not for users: refs come from calls and `put`. */
  constructor(state: ObjectState, keeper: RefKeeper) {
    this.#state = state;
    this.#keeper = keeper;
  }

  get id(): ObjectId {
    return this.#state.id;
  }

  // biome-ignore lint/suspicious/noThenProperty: being awaitable is what a ref is for
  then<Value = T, Failed = never>(
    onValue?: ((value: T) => Value | PromiseLike<Value>) | null,
    onError?: ((error: unknown) => Failed | PromiseLike<Failed>) | null,
  ): Promise<Value | Failed> {
    return (this.#keeper.read(this.#state) as Promise<T>).then(onValue, onError);
  }

  /** Lets go of the object now. Using the ref afterwards raises ObjectLostError. */
  release(): void {
    this.#keeper.letGo(this.#state);
  }
  [Symbol.dispose](): void {
    this.release();
  }

  toString(): string {
    return `ObjectRef(${this.id})`;
  }
  [inspect.custom](): string {
    return this.toString();
  }

  /** The state behind a ref, for this library only. */
  static stateOf(ref: ObjectRef<unknown>): ObjectState {
    return ref.#state;
  }
  static isRef(value: unknown): value is ObjectRef<unknown> {
    return typeof value === 'object' && value !== null && #state in value;
  }
}
