// Asks the processes of a node what they hold, and waits for their answers for a limited time.
import type { WorkerId } from '../common/index.js';
import type { wire } from '../protocol/index.js';

/** How long a process has to answer; one that computes does so later. */
const ANSWER_MS_MAX = 1_000;

interface Asked {
  readonly workerId: WorkerId;
  readonly pid: number;
  readonly isDriver: boolean;
}
interface Survey<P> {
  readonly missing: Set<P>;
  readonly answers: wire.ProcessHoldings.$Properties[];
  readonly done: () => void;
}

export class ProcessSurvey<P extends Asked> {
  readonly #send: (process: P, id: number) => void;
  readonly #open = new Map<number, Survey<P>>();
  #lastId = 0;

  constructor(send: (process: P, id: number) => void) {
    this.#send = send;
  }

  /** The answers; without `holdings` from those that gave none in time. A process that ends meanwhile is left out. */
  async ask(processes: Iterable<P>): Promise<readonly wire.ProcessHoldings.$Properties[]> {
    const id = ++this.#lastId;
    const answers: wire.ProcessHoldings.$Properties[] = [];
    const missing = new Set(processes);
    if (missing.size === 0) return answers;
    await new Promise<void>((done) => {
      const late = setTimeout(done, ANSWER_MS_MAX);
      this.#open.set(id, {
        missing,
        answers,
        done: () => {
          clearTimeout(late);
          done();
        },
      });
      for (const process of missing) this.#send(process, id);
    });
    this.#open.delete(id);
    for (const { workerId, pid, isDriver } of missing) answers.push({ workerId, pid, isDriver });
    return answers;
  }

  answered(process: P, { id, holdings }: wire.Held.$Properties): void {
    const survey = this.#open.get(id ?? 0);
    if (!survey?.missing.delete(process)) return;
    const { workerId, pid, isDriver } = process;
    survey.answers.push({ workerId, pid, isDriver, holdings: holdings ?? {} });
    if (survey.missing.size === 0) survey.done();
  }
  gone(process: P): void {
    for (const survey of this.#open.values())
      if (survey.missing.delete(process) && survey.missing.size === 0) survey.done();
  }
}
