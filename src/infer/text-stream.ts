// Text of a sequence as its tokens come. Tokens are bytes of text, not characters: what may still change (half a character, or
// what may become a stop string) is held back until it is known.

/** Text of ids, as the tokenizer writes it. */
export type Decode = (ids: readonly number[]) => Promise<string>;

/** What ends a text beside the model's own end. */
export interface StopOptions {
  /** The text ends before the first of them, wherever the borders of its tokens are. */
  readonly stopStrings: readonly string[];
  /** Keep the stop string itself. */
  readonly includeStopString: boolean;
}

/** The text of one sequence: given its tokens one by one, gives the text that no later token changes. */
export class TextStream {
  readonly #decode: Decode;
  readonly #options: StopOptions;
  readonly #ids: number[] = [];
  /** Tokens before `#prefix` are done with; those up to `#read` have given their text. */
  #prefix = 0;
  #read = 0;
  #text = '';
  #told = 0;
  #isStopped = false;

  constructor(decode: Decode, options: StopOptions) {
    this.#decode = decode;
    this.#options = options;
  }

  /** Text so far, cut where a stop string came. */
  get text(): string {
    return this.#text;
  }

  /** A stop string came. */
  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** Adds one token. */
  async push(id: number): Promise<void> {
    this.#ids.push(id);
    await this.#grow(false);
  }

  /** No more tokens come: nothing is held back any longer. */
  async finish(): Promise<void> {
    if (!this.#isStopped) await this.#grow(true);
  }

  /** What is certain and was not told yet. */
  tell(isOver: boolean): string {
    const held = isOver || this.#isStopped ? 0 : heldBack(this.#text, this.#options.stopStrings);
    const end = Math.max(this.#told, this.#text.length - held);
    const told = this.#text.slice(this.#told, end);
    this.#told = end;
    return told;
  }

  /** Tokens are decoded behind a few before them, since a token's text may depend on what it follows. */
  async #grow(isLast: boolean): Promise<void> {
    const before = await this.#decode(this.#ids.slice(this.#prefix, this.#read));
    const after = await this.#decode(this.#ids.slice(this.#prefix));
    if (after.length <= before.length || (after.endsWith('\uFFFD') && !isLast)) return;
    this.#prefix = this.#read;
    this.#read = this.#ids.length;
    const from = this.#text.length;
    this.#text += after.slice(before.length);
    this.#cut(from);
  }

  /** Looks for the first stop string that ends in the text from `from` on. */
  #cut(from: number): void {
    let first = Number.POSITIVE_INFINITY;
    let length = 0;
    for (const stop of this.#options.stopStrings) {
      const at = this.#text.indexOf(stop, Math.max(0, from - stop.length + 1));
      if (at < 0 || at >= first) continue;
      first = at;
      length = stop.length;
    }
    if (first === Number.POSITIVE_INFINITY) return;
    this.#isStopped = true;
    this.#text = this.#text.slice(0, first + (this.#options.includeStopString ? length : 0));
  }
}

/** Length of the longest end of `text` that a stop string may begin with. */
function heldBack(text: string, stopStrings: readonly string[]): number {
  let most = 0;
  for (const stop of stopStrings) {
    for (let length = Math.min(stop.length - 1, text.length); length > most; length--) {
      if (text.endsWith(stop.slice(0, length))) most = length;
    }
  }
  return most;
}
