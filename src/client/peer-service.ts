// What a process does for its peers: runs calls (a worker), tells them its objects' content, counts who borrows them.
import { ActorDiedError, type ObjectId, ObjectLostError } from '../common/index.js';
import { asError, failureOf, type wire } from '../protocol/index.js';
import type { CallContext } from './call-context.js';
import type { Lineage } from './lineage.js';
import type { ObjectTable } from './object-table.js';
import type { PeerHost, PeerLink, Question } from './peer-link.js';
import { sizeOf } from './stored-value.js';

/** What a worker adds: it runs calls. */
export interface CallRunner {
  call(call: wire.Call, from: PeerLink): void;
  cancel(cancel: wire.Cancel, from: PeerLink): void;
  consumed(consumed: wire.Consumed, from: PeerLink): void;
  /** The call that runs, where there is but one; null otherwise. */
  readonly current: CallContext | null;
  /** Code of this process began (+1) or ended (-1) to wait for an object: another call may run meanwhile. */
  blocked(delta: 1 | -1): void;
}

export class PeerService implements PeerHost {
  readonly #host: { readonly runner: CallRunner | null };
  readonly #objects: ObjectTable;
  readonly #lineage: Lineage;

  /** @param host `runner`: null in a driver, and in a worker that was not assigned yet */
  constructor(host: { readonly runner: CallRunner | null }, objects: ObjectTable, lineage: Lineage) {
    this.#host = host;
    this.#objects = objects;
    this.#lineage = lineage;
  }

  call(call: wire.Call, from: PeerLink): void {
    const { runner } = this.#host;
    if (runner) runner.call(call, from);
    else {
      const error = new ActorDiedError({ actorId: '' as never, className: 'driver', detail: 'a driver runs no calls' });
      from.answer(call.id, { failure: failureOf(error) }, 0, []);
    }
  }
  cancel(cancel: wire.Cancel, from: PeerLink): void {
    this.#host.runner?.cancel(cancel, from);
  }
  consumed(consumed: wire.Consumed, from: PeerLink): void {
    this.#host.runner?.consumed(consumed, from);
  }

  resolve(
    id: ObjectId,
    { lost = null, wish = '' }: Question,
    answer: (resolved: Omit<wire.Resolved.$Properties, 'id'>, bytes: number) => void,
  ): void {
    const state = this.#objects.find(id);
    const freed = (): void => {
      const error = new ObjectLostError({ objectId: id, detail: 'its owner has let go of it' });
      answer({ failure: failureOf(error) }, 0);
    };
    if (!state) {
      freed();
      return;
    }
    if (wish !== '') {
      const failed = (error: unknown): void => answer({ failure: failureOf(asError(error)) }, 0);
      if (state.grant) state.grant(wish).then((text) => answer({ answer: text }, text.length), failed);
      else freed();
      return;
    }
    if (lost) this.#lineage.lostAt(state, lost);
    state.whenSettled((content) => {
      if (content.kind === 'inline') answer({ inline: content.value }, sizeOf(content.value));
      else if (content.kind === 'stored') answer({ location: content.location }, 0);
      else if (content.kind === 'failed') answer({ failure: content.failure }, 0);
      else freed();
    });
  }

  borrow(id: ObjectId, delta: number): void {
    this.#objects.borrow(id, delta);
  }
}
