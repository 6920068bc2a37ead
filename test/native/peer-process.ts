// Processes that do what a test tells them, one request at a time or several: the test's side, and theirs.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

interface Facts {
  readonly message: string;
  readonly code?: string;
  readonly rank?: number;
}

interface Answer {
  readonly id: number;
  readonly text: string;
  readonly error: Facts | null;
  /** More will follow for the same request. */
  readonly isNote: boolean;
}

/** A request failed in the peer's process. */
export class PeerFailure extends Error {
  readonly facts: Facts;
  constructor(facts: Facts) {
    super(facts.message);
    this.facts = facts;
  }
}

/** What `promise` failed with in the peer; any other end is an error. */
export async function failureOf(promise: Promise<unknown>): Promise<Facts> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof PeerFailure) return error.facts;
    throw error;
  }
  throw new Error('expected a failure');
}

interface Waiting {
  resolve(text: string): void;
  reject(error: Error): void;
  note(text: string): void;
}

export class Peer<Request> implements AsyncDisposable {
  readonly process: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  #ids = 0;

  /** Starts `script` (a URL), which calls {@link serve}. */
  constructor(script: URL) {
    this.process = fork(fileURLToPath(script));
    this.process.on('message', ({ id, text, error, isNote }: Answer) => {
      const waiting = this.#waiting.get(id);
      if (isNote) return waiting?.note(text);
      this.#waiting.delete(id);
      if (error) waiting?.reject(new PeerFailure(error));
      else waiting?.resolve(text);
    });
    this.process.on('exit', () => {
      for (const { reject } of this.#waiting.values()) reject(new Error('the peer process ended'));
    });
  }

  /** The answer to `request`; `note` is called for what the peer says before it. */
  ask(request: Request, note: (text: string) => void = () => {}): Promise<string> {
    const id = this.#ids++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, note });
      this.process.send({ id, request });
    });
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = once(this.process, 'exit');
    this.process.kill(signal);
    await ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}

/** The peer's side: answers every request of the process that started this one. */
export function serve<Request>(answer: (request: Request, note: (text: string) => void) => Promise<string>): void {
  process.on('message', ({ id, request }: { id: number; request: Request }) => {
    const send = (text: string, error: Facts | null, isNote = false) =>
      void process.send?.({ id, text, error, isNote } satisfies Answer);
    answer(request, (text) => send(text, null, true)).then(
      (text) => send(text, null),
      ({ message, code, rank }: Error & { code?: string; rank?: number }) => send('', { message, code, rank }),
    );
  });
}
