// The native engine refused or failed, or a training run did.
import { RayliteError } from './base.js';

/** The native engine refused a plan, met a non-finite loss, or a collective failed. `rank` names the late or dead one where known. */
export class EngineError extends RayliteError {
  readonly code = 'RAYLITE_ENGINE';
  readonly detail: string;
  readonly rank: number | null;
  constructor(facts: { detail: string; rank?: number | null }, options?: ErrorOptions) {
    super(facts.detail, options);
    this.detail = facts.detail;
    this.rank = facts.rank ?? null;
  }
}

/**
 * A training run ended without finishing: its workers failed more often than `maxFailures` allows, or there was no room for others within
 * `joinTimeoutSeconds`.
 */
export class TrainingError extends RayliteError {
  readonly code = 'RAYLITE_TRAINING';
  readonly detail: string;
  constructor(facts: { detail: string }, options?: ErrorOptions) {
    super(facts.detail, options);
    this.detail = facts.detail;
  }
}
