// Evaluation of packed rows on a device: losses per token and, on request, logits and hidden states.
import { compileForward, type ForwardSettings } from '../compile/inference.js';
import type { AnyModel } from '../model.js';
import type { Plan } from '../plan/plan.js';
import { type Batch, writeBatch } from './batch.js';
import { DeviceBuffers } from './buffers.js';
import { type Communicators, communicatorTable } from './communicators.js';
import type { ParameterStore } from './parameter-store.js';
import { Program } from './program.js';

/** What a forward says of its rows. */
export interface ForwardResult {
  /** Sum of the losses of the labelled rows. */
  readonly loss: number;
  /** Loss of each row; cross-entropy is 0 where the label is -100, and elsewhere minus the log-probability of the label. */
  readonly tokenLosses: Float32Array;
  /** [rows, V], when asked for. */
  readonly logits: Float32Array | null;
  /** [rows, D] each, when asked for: behind the embeddings, each block but the last, and the final norm. */
  readonly hiddenStates: readonly Float32Array[];
  /** [rows], in nats, when asked for. */
  readonly entropies: Float32Array | null;
  /** [rows] of a model with a value head. */
  readonly values: Float32Array | null;
}

/** A program that gives the losses of packed rows, loaded over weights that are there. */
export class Forward implements Disposable {
  readonly plan: Plan;
  readonly #model: AnyModel;
  readonly #program: Program;
  readonly #buffers: DeviceBuffers;

  /**
   * Compiles and loads over the parameters of `store`, which stays the caller's and must outlive this. Where ranks keep slices of
   * them (ZeRO stage 3) every run gathers, so that all ranks must run, and `communicators` must be those of the training job.
   */
  constructor(settings: ForwardSettings, store: ParameterStore, communicators: Communicators = {}) {
    this.#model = settings.model;
    this.plan = compileForward(settings, store.layout);
    this.#buffers = new DeviceBuffers(store.device);
    store.lendTo(this.#buffers);
    this.#buffers.reserve([this.plan]);
    this.#program = new Program(store.device, this.plan, this.#buffers, communicatorTable(communicators));
  }

  /** One run at a time; results are copies. */
  async run(batch: Batch): Promise<ForwardResult> {
    const program = this.#program;
    writeBatch(program, batch, this.#model);
    program.floats('scale')[0] = 1;
    await program.run();
    const names = [...this.plan.graph.outputs.keys()];
    const optional = (name: string) => (names.includes(name) ? program.floats(name).slice() : null);
    return {
      loss: program.floats('loss')[0]!,
      tokenLosses: program.floats('tokenLosses').slice(),
      logits: optional('logits'),
      entropies: optional('entropies'),
      values: optional('values'),
      hiddenStates: names
        .filter((name) => name.startsWith('hiddenStates.'))
        .map((name) => program.floats(name).slice()),
    };
  }

  [Symbol.dispose](): void {
    this.#program.dispose();
    this.#buffers.dispose();
  }
}
