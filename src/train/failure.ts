// Which failures of an attempt may go away with new workers, and which would only come again.
import { TaskError } from '../common/index.js';

/** By code, which errors keep on their way between processes. */
const FINAL = new Set([
  'RAYLITE_CONFIG',
  'RAYLITE_DATA',
  'RAYLITE_INFEASIBLE',
  'RAYLITE_CODE_NOT_FOUND',
  'RAYLITE_TRAINING',
]);

/** A worker, node or object that was lost is worth another try; wrong settings, wrong data and losses or gradients that
 * are not finite are not. */
export function isWorthRetrying(error: unknown): boolean {
  if (error instanceof TaskError) return isWorthRetrying(error.cause);
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return false;
  // A collective that lost a peer is an engine error with a cause: the native communicator's. A bad loss has none.
  if (error.code === 'RAYLITE_ENGINE') return error.cause !== undefined;
  return error.code.startsWith('RAYLITE_') && !FINAL.has(error.code);
}
