// Errors across processes: what of an error travels, and how it is built again on the other side.
import * as errors from '../common/index.js';
import { show } from '../common/index.js';

/** Everything of an error that travels. */
export interface ErrorFacts {
  readonly code: string; // of raylite's own errors; empty for others
  readonly name: string;
  readonly message: string;
  readonly stack: string;
  readonly fields: Readonly<Record<string, unknown>>; // own enumerable properties but those above
  readonly cause: unknown;
  readonly hasCause: boolean;
}

/** raylite's own errors by their code, to be built again as the same class. */
const classesByCode: Readonly<Record<string, { readonly prototype: errors.RayliteError }>> = {
  RAYLITE_CONFIG: errors.ConfigError,
  RAYLITE_TASK: errors.TaskError,
  RAYLITE_WORKER_CRASHED: errors.WorkerCrashedError,
  RAYLITE_ACTOR_DIED: errors.ActorDiedError,
  RAYLITE_ACTOR_UNAVAILABLE: errors.ActorUnavailableError,
  RAYLITE_QUEUE_FULL: errors.QueueFullError,
  RAYLITE_QUEUE_EMPTY: errors.QueueEmptyError,
  RAYLITE_PENDING_CALLS_LIMIT: errors.PendingCallsLimitError,
  RAYLITE_OBJECT_LOST: errors.ObjectLostError,
  RAYLITE_RECONSTRUCTION_FAILED: errors.ObjectReconstructionFailedError,
  RAYLITE_OWNER_DIED: errors.OwnerDiedError,
  RAYLITE_STORE_FULL: errors.StoreFullError,
  RAYLITE_OUT_OF_DISK: errors.OutOfDiskError,
  RAYLITE_OUT_OF_MEMORY: errors.OutOfMemoryError,
  RAYLITE_INFEASIBLE: errors.InfeasibleError,
  RAYLITE_PLACEMENT_GROUP_REMOVED: errors.PlacementGroupRemovedError,
  RAYLITE_CANCELLED: errors.CancelledError,
  RAYLITE_GET_TIMEOUT: errors.GetTimeoutError,
  RAYLITE_SERIALIZATION: errors.SerializationError,
  RAYLITE_CODE_NOT_FOUND: errors.CodeNotFoundError,
  RAYLITE_RUNTIME_ENV_SETUP: errors.RuntimeEnvSetupError,
  RAYLITE_CONNECTION: errors.ConnectionError,
  RAYLITE_HEAD_STATE: errors.HeadStateError,
  RAYLITE_DATA: errors.DataError,
  RAYLITE_ENGINE: errors.EngineError,
  RAYLITE_TRAINING: errors.TrainingError,
};
const builtIns: Readonly<Record<string, { readonly prototype: Error }>> = {
  AggregateError,
  EvalError,
  RangeError,
  ReferenceError,
  SyntaxError,
  TypeError,
  URIError,
};
const NOT_FIELDS = new Set(['name', 'message', 'stack', 'cause', '__proto__', 'constructor', 'prototype']);

export function describeError(error: Error): ErrorFacts {
  const isOurs = error instanceof errors.RayliteError && Object.hasOwn(classesByCode, error.code);
  const fields: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(error)) {
    if (!NOT_FIELDS.has(key) && typeof value !== 'function' && typeof value !== 'symbol') fields[key] = value;
  }
  if (error instanceof AggregateError) fields.errors = error.errors;
  const hasCause = 'cause' in error && error.cause !== undefined;
  return {
    code: isOurs ? error.code : '',
    name: String(error.name),
    message: String(error.message),
    stack: String(error.stack ?? ''),
    fields,
    cause: hasCause ? error.cause : undefined,
    hasCause,
  };
}

/** The error again: of the same class if it is raylite's own or built into JavaScript, else an Error with its name. */
export function rebuildError(facts: ErrorFacts): Error {
  const error = new Error(facts.message, facts.hasCause ? { cause: facts.cause } : undefined);
  const known = Object.hasOwn(classesByCode, facts.code)
    ? classesByCode[facts.code]
    : Object.hasOwn(builtIns, facts.name)
      ? builtIns[facts.name]
      : undefined;
  if (known) Object.setPrototypeOf(error, known.prototype);
  else if (facts.name !== 'Error') hidden(error, 'name', facts.name);
  for (const [key, value] of Object.entries(facts.fields)) {
    if (!NOT_FIELDS.has(key)) Object.assign(error, { [key]: value });
  }
  hidden(error, 'stack', facts.stack || `${facts.name}: ${facts.message}`);
  return error;
}

/** Whatever was thrown, as an Error. */
export const asError = (thrown: unknown): Error =>
  thrown instanceof Error ? thrown : new Error(typeof thrown === 'string' ? thrown : show(thrown), { cause: thrown });

const hidden = (error: Error, key: string, value: string): void => {
  Object.defineProperty(error, key, { value, writable: true, configurable: true, enumerable: false });
};
