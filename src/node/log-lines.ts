// The output of a worker: written to a file, cut into lines for the driver within a budget, its end remembered for error messages.
import { createWriteStream, type WriteStream } from 'node:fs';
import { basename } from 'node:path';
import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { LineBudget } from './line-budget.js';

const LAST_LINES_MAX = 20;
const LINE_CHARS_MAX = 4_000;
const BATCH_MS = 50;

export class LogLines {
  readonly #file: WriteStream;
  readonly #fileName: string;
  readonly #onLines: (lines: readonly string[], isError: boolean) => void;
  readonly #last: string[] = [];
  readonly #sends: (() => void)[] = [];
  readonly #budget: LineBudget;
  #noteTimer: NodeJS.Timeout | null = null;
  /** The worker has closed both streams, and its file is written. */
  readonly ended: Promise<unknown>;

  /** @param onLines gets the lines of about 50 ms at a time */
  constructor(
    streams: { readonly out: Readable; readonly error: Readable },
    path: string,
    onLines: (lines: readonly string[], isError: boolean) => void,
    budget = new LineBudget(),
  ) {
    this.#file = createWriteStream(path, { flags: 'a', mode: 0o600 });
    this.#file.on('error', () => {}); // a full disk must not end the agent; the driver still gets the lines
    this.#fileName = basename(path);
    this.#onLines = onLines;
    this.#budget = budget;
    this.ended = this.#followBoth(streams);
  }

  async #followBoth({ out, error }: { readonly out: Readable; readonly error: Readable }): Promise<void> {
    await Promise.all([this.#follow(out, false), this.#follow(error, true)]);
    this.#note();
    this.#file.end();
    await finished(this.#file).catch(() => {}); // a full disk, as above
  }

  /** Passes on at once the whole lines that came so far. */
  flush(): void {
    for (const send of this.#sends) send();
    this.#note();
  }

  get lastLines(): readonly string[] {
    return this.#last;
  }

  /** Says how many lines were dropped. */
  readonly #note = (): void => {
    if (this.#noteTimer) clearTimeout(this.#noteTimer);
    this.#noteTimer = null;
    const dropped = this.#budget.takeDropped();
    if (dropped > 0)
      this.#onLines(
        [`[raylite: ${dropped} lines were dropped here, too many at once; ${this.#fileName} has them]`],
        true,
      );
  };

  #follow(stream: Readable, isError: boolean): Promise<void> {
    let partial = '';
    let batch: string[] = [];
    let timer: NodeJS.Timeout | null = null;
    const send = (): void => {
      if (timer) clearTimeout(timer);
      timer = null;
      if (batch.length > 0) this.#onLines(batch, isError);
      batch = [];
    };
    const add = (line: string): void => {
      const shown = line.length > LINE_CHARS_MAX ? `${line.slice(0, LINE_CHARS_MAX)}…` : line;
      this.#last.push(shown);
      if (this.#last.length > LAST_LINES_MAX) this.#last.shift();
      const now = performance.now();
      if (this.#budget.take(shown.length, now)) {
        batch.push(shown);
        timer ??= setTimeout(send, BATCH_MS);
      } else this.#noteTimer ??= setTimeout(this.#note, this.#budget.restMs(now));
    };
    this.#sends.push(send);
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => {
      this.#file.write(text);
      const lines = (partial + text).split('\n');
      partial = lines.pop() ?? '';
      if (partial.length > LINE_CHARS_MAX) {
        lines.push(partial);
        partial = '';
      }
      for (const line of lines) add(line);
    });
    return new Promise((resolve) => {
      stream.on('close', () => {
        if (partial) add(partial);
        send();
        resolve();
      });
    });
  }
}
