// An actor cannot answer, or not now.
import type { ActorId } from '../ids.js';
import { lastOutput, RayliteError } from './base.js';

/** The actor is gone for good. `detail` says why: killed, constructor threw, restarts used up, owner ended, node lost. */
export class ActorDiedError extends RayliteError {
  readonly code = 'RAYLITE_ACTOR_DIED';
  readonly actorId: ActorId;
  readonly className: string;
  readonly detail: string;
  readonly lastLogLines: readonly string[];
  constructor(
    facts: { actorId: ActorId; className: string; detail: string; lastLogLines?: readonly string[] },
    options?: ErrorOptions,
  ) {
    super(
      `actor ${facts.className} (${facts.actorId}) is dead: ${facts.detail}${lastOutput(facts.lastLogLines)}`,
      options,
    );
    this.actorId = facts.actorId;
    this.className = facts.className;
    this.detail = facts.detail;
    this.lastLogLines = facts.lastLogLines ?? [];
  }
}

/** The actor's process ended or cannot be reached while a call was in flight; it may be restarting. The call may or may not have run. */
export class ActorUnavailableError extends RayliteError {
  readonly code = 'RAYLITE_ACTOR_UNAVAILABLE';
  override readonly isRetryable = true;
  readonly actorId: ActorId;
  readonly detail: string;
  constructor(facts: { actorId: ActorId; detail: string }, options?: ErrorOptions) {
    super(
      `actor ${facts.actorId} is unavailable: ${facts.detail}. The call may have run; call again once it answers, or set maxTaskRetries`,
      options,
    );
    this.actorId = facts.actorId;
    this.detail = facts.detail;
  }
}

/** This process has as many calls of the actor open as `maxPendingCalls` allows; the call was not made. */
export class PendingCallsLimitError extends RayliteError {
  readonly code = 'RAYLITE_PENDING_CALLS_LIMIT';
  override readonly isRetryable = true;
  readonly actorId: ActorId;
  readonly className: string;
  readonly maxPendingCalls: number;
  constructor(facts: { actorId: ActorId; className: string; maxPendingCalls: number }, options?: ErrorOptions) {
    super(
      `actor ${facts.className} (${facts.actorId}) has ${facts.maxPendingCalls} calls of this process waiting, as many as maxPendingCalls allows. Await some of them first`,
      options,
    );
    this.actorId = facts.actorId;
    this.className = facts.className;
    this.maxPendingCalls = facts.maxPendingCalls;
  }
}
