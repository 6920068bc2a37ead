// Faults for tests: messages lost, doubled and late. A stream loses nothing while it lasts, so that a loss is what it is in
// life: the connection breaks, before the message (requestLost) or right behind it (replyLost).
//
// $RAYLITE_TESTING_RPC_FAILURE has them befall by chance:
//   Envelope.field=count:requestLost:replyLost[:doubled[:delayMs]],…   e.g. ClientToHead.createActor=2:0.5:0.5,Frame.*=9:0:0:1
// (probabilities behind the count, which bounds the faults of a message in one process). $RAYLITE_TESTING_RPC_FAILURE_DIR
// names a folder in which a test arms them one by one: a file "Envelope.field=requestLost" befalls the next such message of any
// process, which removes the file.
import { unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError } from '../common/index.js';
import { wire } from './wire.js';

const KINDS = ['requestLost', 'replyLost', 'doubled'] as const;
export type Fault = (typeof KINDS)[number] | 'delayed';
/** Of an armed delay. */
const DELAY_MS = 30;

/** The messages that travel by themselves: each of their fields is one that can be lost. */
export const ENVELOPES = [
  'Frame',
  'ClientToHead',
  'HeadToClient',
  'NodeToHead',
  'HeadToNode',
  'ProcessToAgent',
  'AgentToProcess',
] as const;
export type Envelope = (typeof ENVELOPES)[number];

/** The messages of an envelope, by their names in it. */
export const messagesOf = (envelope: Envelope): readonly string[] =>
  Object.keys(wire[envelope].prototype).filter((key) => key !== 'requestId' && key !== 'toJSON');

interface Plan {
  left: number;
  readonly chances: Readonly<Record<(typeof KINDS)[number], number>>;
  readonly delayMs: number;
}

export class Faults {
  readonly #plans = new Map<string, Plan>();
  readonly #folder: string;
  readonly #random: () => number;

  /** Throws {@link ConfigError} for a text that is no list of faults, or names a message that is none. */
  constructor(text: string, folder = '', random: () => number = Math.random) {
    this.#folder = folder;
    this.#random = random;
    for (const part of text.split(',').filter(Boolean)) {
      const [name = '', numbers = ''] = part.trim().split('=');
      const [left = Number.NaN, requestLost = 0, replyLost = 0, doubled = 0, delayMs = 0] = numbers
        .split(':')
        .map(Number);
      const all = [left, requestLost, replyLost, doubled, delayMs];
      const names = namesOf(name);
      if (names.length === 0 || numbers === '' || all.some((number) => !(number >= 0)))
        throw new ConfigError(
          'RAYLITE_TESTING_RPC_FAILURE',
          'Envelope.field=count:requestLost:replyLost[:doubled[:delayMs]],… with messages of proto/',
          part,
        );
      for (const each of names) this.#plans.set(each, { left, chances: { requestLost, replyLost, doubled }, delayMs });
    }
  }

  /** What is to happen to the next message of that name ("Envelope.field"); null: nothing. */
  next(name: string): { readonly fault: Fault; readonly delayMs: number } | null {
    return this.#armed(name) ?? this.#drawn(name);
  }

  #drawn(name: string): ReturnType<Faults['next']> {
    const plan = this.#plans.get(name);
    if (!plan || plan.left === 0) return null;
    const fault = KINDS.find((kind) => this.#random() < plan.chances[kind]) ?? (plan.delayMs > 0 ? 'delayed' : null);
    if (fault === null) return null;
    plan.left -= 1;
    return { fault, delayMs: fault === 'delayed' ? plan.delayMs : 0 };
  }
  #armed(name: string): ReturnType<Faults['next']> {
    if (this.#folder === '') return null;
    for (const fault of [...KINDS, 'delayed'] as const)
      try {
        unlinkSync(join(this.#folder, `${name}=${fault}`));
        return { fault, delayMs: DELAY_MS };
      } catch {
        // not armed, or another process was faster
      }
    return null;
  }
}

function namesOf(name: string): readonly string[] {
  const [given, field] = name.split('.');
  const envelope = ENVELOPES.find((each) => each === given);
  if (!envelope) return [];
  const fields = messagesOf(envelope);
  return fields.filter((each) => field === '*' || field === each).map((each) => `${envelope}.${each}`);
}

const { RAYLITE_TESTING_RPC_FAILURE: text = '', RAYLITE_TESTING_RPC_FAILURE_DIR: folder = '' } = process.env;
/** Of this process; null outside of tests. */
export const faults = text || folder ? new Faults(text, folder) : null;
