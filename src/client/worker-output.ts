// What workers write, on this driver's own stdout and stderr, each line behind the name of who wrote it.
import type { wire } from '../protocol/index.js';
import { REPEAT_WINDOW_MS, RepeatedLines, type Shown } from './repeated-lines.js';

export class WorkerOutput {
  readonly #repeated = process.env.RAYLITE_DEDUP_LOGS === '0' ? null : new RepeatedLines();
  readonly #nodeId: () => string;
  #timer: NodeJS.Timeout | null = null;

  /** @param nodeId of this process: other nodes' addresses are shown */
  constructor(nodeId: () => string) {
    this.#nodeId = nodeId;
  }

  show(lines: wire.LogLines): void {
    if (!this.#repeated) {
      this.#print(lines);
      return;
    }
    for (const shown of this.#repeated.pass(lines, performance.now())) this.#print(shown);
    if (this.#repeated.isHolding) this.#timer ??= setTimeout(this.#showDue, REPEAT_WINDOW_MS).unref();
  }

  readonly #showDue = (): void => {
    this.#timer = null;
    for (const shown of this.#repeated?.due(performance.now()) ?? []) this.#print(shown);
    if (this.#repeated?.isHolding) this.#timer = setTimeout(this.#showDue, REPEAT_WINDOW_MS).unref();
  };

  /** Shows what is held back; called when the driver leaves. */
  close(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    for (const shown of this.#repeated?.rest() ?? []) this.#print(shown);
  }

  #print({ name, pid, nodeId, host, lines, isError }: Shown): void {
    const out = isError ? process.stderr : process.stdout;
    const where = host && nodeId !== this.#nodeId() ? `, ip=${host}` : '';
    for (const line of lines) out.write(`(${name || 'worker'} pid=${pid}${where}) ${line}\n`);
  }
}
