// What AsyncDisposableStack will be once every supported Node has it: owners to end, last first.

export class Owned implements AsyncDisposable {
  #disposers: (() => void | PromiseLike<void>)[] = [];

  use<T extends AsyncDisposable | Disposable>(owner: T): T {
    this.#disposers.push(() =>
      Symbol.asyncDispose in owner ? owner[Symbol.asyncDispose]() : (owner as Disposable)[Symbol.dispose](),
    );
    return owner;
  }
  defer(dispose: () => void | PromiseLike<void>): void {
    this.#disposers.push(dispose);
  }
  /** Hands everything over to the owner that is returned. */
  move(): Owned {
    const other = new Owned();
    other.#disposers = this.#disposers;
    this.#disposers = [];
    return other;
  }
  /** Ends all of them even if some fail, then rejects with the first failure. Safe to repeat. */
  async [Symbol.asyncDispose](): Promise<void> {
    const disposers = this.#disposers.reverse();
    this.#disposers = [];
    const errors: unknown[] = [];
    for (const dispose of disposers) {
      try {
        await dispose();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}
