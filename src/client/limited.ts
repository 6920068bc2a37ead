// Waiting with an end: by time, or by a signal.
import { GetTimeoutError } from '../common/index.js';

/** How long `get` and `wait` wait. */
export interface GetOptions {
  /** Milliseconds until GetTimeoutError. Without it, waits as long as it takes. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** `value`, unless time or signal come first. */
export function limited<T>(value: Promise<T>, { timeoutMs, signal }: GetOptions): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer =
      timeoutMs === undefined
        ? null
        : setTimeout(() => settle(() => reject(new GetTimeoutError({ timeoutMs }))), timeoutMs);
    const onAbort = (): void => settle(() => reject(signal?.reason));
    const settle = (how: () => void): void => {
      if (timer) clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      how();
    };
    if (signal?.aborted) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
    value.then(
      (got) => settle(() => resolve(got)),
      (error) => settle(() => reject(error)),
    );
  });
}
