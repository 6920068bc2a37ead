// Errors of native code as ours.
import { EngineError } from '../../common/index.js';

/** As `run`, but rejects with {@link EngineError}. */
export async function translated<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (cause) {
    throw engineError(cause);
  }
}

export function engineError(cause: unknown): EngineError {
  const detail = cause instanceof Error ? cause.message : String(cause);
  const rank = cause instanceof Error && 'rank' in cause && typeof cause.rank === 'number' ? cause.rank : null;
  return new EngineError({ detail, rank }, { cause });
}
