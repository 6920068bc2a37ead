// Faults for tests: requests lost, replies lost, messages doubled or late, as $RAYLITE_TESTING_RPC_FAILURE says. A stream
// loses nothing while it lasts, so that a loss is what it is in life: the connection breaks.
//
//   Method=count:requestLost:replyLost[:doubled[:delayMs]],…      e.g. createActor=2:0.5:0.5,call=3:0:0:1
//
// The first three after the count are probabilities; `count` bounds the faults of that method in one process.
import { ConfigError } from '../common/index.js';

export type Fault = 'requestLost' | 'replyLost' | 'doubled' | 'delayed';

interface Plan {
  left: number;
  readonly chances: Readonly<Record<'requestLost' | 'replyLost' | 'doubled', number>>;
  readonly delayMs: number;
}

export class Faults {
  readonly #plans = new Map<string, Plan>();
  readonly #random: () => number;

  /** Throws {@link ConfigError} for a text that is no list of faults. */
  constructor(text: string, random: () => number = Math.random) {
    this.#random = random;
    for (const part of text.split(',')) {
      const [method = '', numbers = ''] = part.trim().split('=');
      const [left = Number.NaN, requestLost = 0, replyLost = 0, doubled = 0, delayMs = 0] = numbers
        .split(':')
        .map(Number);
      const all = [left, requestLost, replyLost, doubled, delayMs];
      if (method === '' || numbers === '' || all.some((number) => !(number >= 0)))
        throw new ConfigError(
          'RAYLITE_TESTING_RPC_FAILURE',
          'Method=count:requestLost:replyLost[:doubled[:delayMs]],…',
          part,
        );
      this.#plans.set(method, { left, chances: { requestLost, replyLost, doubled }, delayMs });
    }
  }

  /** What is to happen to the next message of that name; null: nothing. */
  next(method: string): { readonly fault: Fault; readonly delayMs: number } | null {
    const plan = this.#plans.get(method);
    if (!plan || plan.left === 0) return null;
    for (const fault of ['requestLost', 'replyLost', 'doubled'] as const) {
      if (this.#random() >= plan.chances[fault]) continue;
      plan.left -= 1;
      return { fault, delayMs: 0 };
    }
    if (plan.delayMs === 0) return null;
    plan.left -= 1;
    return { fault: 'delayed', delayMs: plan.delayMs };
  }
}

const text = process.env.RAYLITE_TESTING_RPC_FAILURE;
/** Of this process; null outside of tests. */
export const faults = text ? new Faults(text) : null;
