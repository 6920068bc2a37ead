// A worker without a process of its own: the same code as a worker process runs, on streams in memory.
//
//   starting ─ready→ assigned ─ready→ serving ─exit→ (gone)
import { AgentLink, type Runtime } from '../client/process/index.js';
import { newWorkerId } from '../common/index.js';
import { type Channel, MemoryChannel, MessageChannel, wire } from '../protocol/index.js';
import { startWorker } from '../worker/index.js';
import type { MemoryDoors } from './memory-doors.js';

export interface MemoryWorkerNews {
  readonly started: (address: wire.WorkerAddress.$Properties) => void;
  readonly failed: (failure: wire.Failure.$Properties) => void;
  readonly exited: (exitCode: number, isIntended: boolean) => void;
}

export class MemoryWorker {
  readonly #news: MemoryWorkerNews;
  readonly #agent: MessageChannel<wire.AgentToProcess.$Properties, wire.ProcessToAgent>;
  #runtime: Runtime | null = null;
  #isAssigned = false;
  #isIntended = false;
  #hasEnded = false;

  constructor(
    cluster: {
      readonly attached: wire.Attached.$Properties;
      readonly head: () => Promise<Channel>;
      readonly doors: MemoryDoors;
    },
    assignment: wire.StartWorker,
    news: MemoryWorkerNews,
  ) {
    this.#news = news;
    const [near, far] = MemoryChannel.pair('the agent');
    this.#agent = new MessageChannel(far, wire.AgentToProcess, wire.ProcessToAgent);
    this.#agent.receive((message) => this.#heard(message, cluster.attached, assignment));
    startWorker(
      {
        agent: async (pushes) => AgentLink.over(near, 'the agent', pushes),
        head: () => cluster.head,
        openDoor: async (_, accept) => cluster.doors.open(accept),
        become: (runtime) => {
          this.#runtime = runtime;
          Object.assign(process.env, runtime.runtimeEnv.envVars);
        },
        exit: (code) => this.#exit(code),
      },
      '',
      newWorkerId(),
    ).catch(() => this.#exit(1));
  }

  /** Asks it to end; `graceful`: an actor ends what it was asked for and runs its exit hooks. */
  ask(reason: string, graceful: boolean): void {
    this.#isIntended = true;
    this.#agent.send({ exit: { reason, graceful } });
  }

  /** Takes it off the cluster: its streams close, its calls are told so. Code that heeds nothing runs on unheard. */
  kill(isIntended: boolean): void {
    this.#isIntended ||= isIntended;
    this.#exit(1);
  }

  #heard(message: wire.ProcessToAgent, attached: wire.Attached.$Properties, assignment: wire.StartWorker): void {
    if (message.attach) this.#agent.send({ requestId: message.requestId, attached });
    else if (message.exiting) this.#isIntended = true;
    else if (message.ready?.failure) {
      this.#isIntended = true;
      this.#news.failed(message.ready.failure);
      this.#exit(1);
    } else if (message.ready && this.#isAssigned)
      this.#news.started({ ...message.ready.address, workerId: assignment.workerId });
    else if (message.ready) {
      this.#isAssigned = true;
      this.#agent.send({ assign: assignment });
    }
  }

  #exit(code: number): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#agent.close('the worker ended');
    const tell = (): void => this.#news.exited(code, this.#isIntended);
    if (!this.#runtime) {
      tell();
      return;
    }
    this.#runtime.close().then(tell, tell);
  }
}
