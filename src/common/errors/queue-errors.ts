// A `Queue` did not have what was asked of it in time.
import { RayliteError } from './base.js';

/** A queue had no room for the items in the time given; none was put. */
export class QueueFullError extends RayliteError {
  readonly code = 'RAYLITE_QUEUE_FULL';
  override readonly isRetryable = true;
  readonly size: number;
  readonly itemCount: number;
  constructor(facts: { size: number; itemCount: number }, options?: ErrorOptions) {
    super(`the queue holds ${facts.size} items and had no room for ${facts.itemCount} more in time`, options);
    this.size = facts.size;
    this.itemCount = facts.itemCount;
  }
}

/** A queue did not have as many items in the time given; none was taken. */
export class QueueEmptyError extends RayliteError {
  readonly code = 'RAYLITE_QUEUE_EMPTY';
  override readonly isRetryable = true;
  readonly size: number;
  readonly itemCount: number;
  constructor(facts: { size: number; itemCount: number }, options?: ErrorOptions) {
    super(
      `the queue holds ${facts.size} items, and ${facts.itemCount} were asked for and did not come in time`,
      options,
    );
    this.size = facts.size;
    this.itemCount = facts.itemCount;
  }
}
