// The output of a worker or job: written to a file, cut into lines for the driver, its end remembered for error messages.
import { createWriteStream, type WriteStream } from 'node:fs';
import type { Readable } from 'node:stream';

const LAST_LINES_MAX = 20;
const LINE_CHARS_MAX = 4_000;
const BATCH_MS = 50;

export class LogLines {
  readonly #file: WriteStream;
  readonly #onLines: (lines: readonly string[], isError: boolean) => void;
  readonly #last: string[] = [];
  readonly #sends: (() => void)[] = [];
  readonly ended: Promise<unknown>;

  /** @param onLines gets the lines of about 50 ms at a time */
  constructor(
    streams: { readonly out: Readable; readonly error: Readable },
    path: string,
    onLines: (lines: readonly string[], isError: boolean) => void,
  ) {
    this.#file = createWriteStream(path, { flags: 'a', mode: 0o600 });
    this.#file.on('error', () => {}); // a full disk must not end the agent; the driver still gets the lines
    this.#onLines = onLines;
    this.ended = Promise.all([this.#follow(streams.out, false), this.#follow(streams.error, true)]).finally(() =>
      this.#file.end(),
    );
  }

  /** Passes on at once the whole lines that came so far. */
  flush(): void {
    for (const send of this.#sends) send();
  }

  get lastLines(): readonly string[] {
    return this.#last;
  }

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
      batch.push(shown);
      this.#last.push(shown);
      if (this.#last.length > LAST_LINES_MAX) this.#last.shift();
      timer ??= setTimeout(send, BATCH_MS);
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
