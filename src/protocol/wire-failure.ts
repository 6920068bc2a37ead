// `wire.Failure` from and to errors.
import { asError, describeError, rebuildError } from './failure.js';
import { decodePlain, encodePlain } from './value-codec.js';
import { wire } from './wire.js';

const CAUSE_DEPTH_MAX = 16;

/** @param isApplication whether user code threw it */
export function failureOf(thrown: unknown, isApplication = false, depth = 0): wire.Failure.$Properties {
  const facts = describeError(asError(thrown));
  const failure: wire.Failure.$Properties = {
    code: facts.code,
    name: facts.name,
    message: facts.message,
    stack: facts.stack,
    facts: encodeFields(facts.fields),
    isApplication,
  };
  if (facts.hasCause && depth < CAUSE_DEPTH_MAX) failure.cause = failureOf(facts.cause, false, depth + 1);
  return failure;
}

export function errorOf(failure: wire.Failure.$Properties): Error {
  return rebuildError({
    code: failure.code ?? '',
    name: failure.name || 'Error',
    message: failure.message ?? '',
    stack: failure.stack ?? '',
    fields: decodeFields(failure.facts),
    cause: failure.cause ? errorOf(failure.cause) : undefined,
    hasCause: failure.cause !== null && failure.cause !== undefined,
  });
}

/** The fields that can travel; those that cannot (a socket in a network error, say) must not hide the error itself. */
function encodeFields(fields: Readonly<Record<string, unknown>>): Uint8Array {
  const kept: Record<string, wire.Value.$Properties> = {};
  for (const [key, value] of Object.entries(fields)) {
    try {
      kept[key] = encodePlain(value, key);
    } catch {
      // left out
    }
  }
  return wire.Fields.encode({ values: kept }).finish();
}

function decodeFields(bytes: Uint8Array | null | undefined): Record<string, unknown> {
  if (!bytes?.length) return {};
  const { values } = wire.Fields.decode(bytes);
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, decodePlain(value)]));
}
