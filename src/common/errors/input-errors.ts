// What the user gave is not what was expected: options, settings, files, values and code that cannot travel.
import { RayliteError, show } from './base.js';

/** A value that the user gave is not what was expected. Raised before anything is started or allocated. */
export class ConfigError extends RayliteError {
  readonly code = 'RAYLITE_CONFIG';
  readonly path: string;
  readonly expected: string;
  readonly received: unknown;
  constructor(path: string, expected: string, received: unknown, hint?: string, options?: ErrorOptions) {
    super(`${path}: expected ${expected}, got ${show(received)}${hint ? `. ${hint}` : ''}`, options);
    this.path = path;
    this.expected = expected;
    this.received = received;
  }
}

/** A file or record that the user gave is malformed. `place` is "file:line" or "file: tensor". */
export class DataError extends RayliteError {
  readonly code = 'RAYLITE_DATA';
  readonly place: string;
  readonly detail: string;
  constructor(facts: { place: string; detail: string }, options?: ErrorOptions) {
    super(`${facts.place}: ${facts.detail}`, options);
    this.place = facts.place;
    this.detail = facts.detail;
  }
}

/** A value cannot travel between processes: a function, a symbol, a socket handle. `path` is the place inside the value. */
export class SerializationError extends RayliteError {
  readonly code = 'RAYLITE_SERIALIZATION';
  /** "args[0].model.hooks[2]" */
  readonly path: string;
  /** @param facts `of`: the call whose argument or result it is; empty outside calls */
  constructor(facts: { path: string; detail: string; of?: string }, options?: ErrorOptions) {
    const where = facts.of ? `${facts.path} of ${facts.of}` : facts.path;
    super(`${where} cannot be sent to another process: ${facts.detail}`, options);
    this.path = facts.path;
  }
}

/** A function or class cannot be found by workers: it is not exported from a module, or the module cannot be loaded. */
export class CodeNotFoundError extends RayliteError {
  readonly code = 'RAYLITE_CODE_NOT_FOUND';
  readonly functionName: string;
  constructor(facts: { functionName: string; detail: string }, options?: ErrorOptions) {
    super(`${facts.functionName}: ${facts.detail}`, options);
    this.functionName = facts.functionName;
  }
}
