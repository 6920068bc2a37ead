// The handle of an actor: its methods, each giving a ref. Travels inside values.
import { inspect } from 'node:util';
import { type ActorId, ConfigError, PendingCallsLimitError } from '../common/index.js';
import { defineReferences } from '../protocol/index.js';
import { ActorClient } from './actor-client.js';
import { currentRuntime } from './current.js';
import type { HandleFacts, MethodFacts } from './handle-facts.js';
import type { CallShape } from './invocation.js';
import { type Given, startCall } from './invoke.js';
import { ObjectRef } from './object-ref.js';
import { type CallOptions, checkCallOptions } from './options.js';
import type { Starts } from './returns.js';
import type { Runtime } from './runtime.js';
import type { HandleHost } from './value-exchange.js';

/** A method of an actor: called as it is, or with options of this call. */
export type ActorMethod<Fn> = Starts<Fn> & {
  options(options: CallOptions & { readonly numReturns: 'streaming' }): Starts<Fn, 'items'>;
  options(options: CallOptions & { readonly numReturns: number }): Starts<Fn, 'parts'>;
  options(options: CallOptions): Starts<Fn>;
};

/** An actor, callable from any process: the public methods of its class, each giving a ref. Travels inside values. */
export type ActorHandle<Actor> = {
  readonly [Name in keyof Actor as Actor[Name] extends (...args: never[]) => unknown
    ? Name extends string
      ? Name
      : never
    : never]: ActorMethod<Actor[Name]>;
} & { readonly [actorBrand]: true };
declare const actorBrand: unique symbol;

type Call = ((...args: unknown[]) => Given) & { options?: (options: CallOptions) => Call };

/** What a handle's proxy stands before. */
class HandleTarget {
  readonly client: ActorClient;
  readonly facts: HandleFacts;
  readonly calls = new Map<string, Call>();
  constructor(client: ActorClient, facts: HandleFacts) {
    this.client = client;
    this.facts = facts;
  }
  toString(): string {
    return `ActorHandle(${this.facts.className} ${this.facts.actorId})`;
  }
  [inspect.custom](): string {
    return this.toString();
  }
}
defineReferences(ObjectRef, HandleTarget);

const targets = new WeakMap<object, HandleTarget>();
const NOT_METHODS = new Set([
  'then',
  'toJSON',
  'constructor',
  'toString',
  'valueOf',
  'toLocaleString',
  'hasOwnProperty',
]);

export function makeHandle(runtime: Runtime, facts: HandleFacts): object {
  const { actorId, className } = facts;
  const client = runtime.actors.get(actorId) ?? new ActorClient(runtime, actorId, className);
  runtime.actors.set(actorId, client);
  const target = new HandleTarget(client, facts);
  const handle = new Proxy(target, {
    get(_, name): unknown {
      if (typeof name === 'symbol' || NOT_METHODS.has(name)) {
        // Not thenable, so that `await create()` gives the handle itself.
        if (name === 'then' || name === 'toJSON') return undefined;
        const own: unknown = Reflect.get(target, name, target);
        return typeof own === 'function' && name !== 'constructor' ? own.bind(target) : own;
      }
      let call = target.calls.get(name);
      if (!call) {
        call = methodOf(runtime, target, name);
        target.calls.set(name, call);
      }
      return call;
    },
    set(_, name): never {
      throw new TypeError(`an actor's fields cannot be set from outside (${String(name)}); call a method`);
    },
  });
  targets.set(handle, target);
  return handle;
}

function methodOf(runtime: Runtime, { client, facts }: HandleTarget, name: string): Call {
  const known = facts.methods.get(name);
  if (!known) throw new TypeError(`${facts.className} has no method ${JSON.stringify(name)}`);
  const call = callOf(runtime, client, facts, shapeOf(facts, name, known));
  call.options = (options) => {
    checkCallOptions(`${facts.className}.${name}`, options);
    return callOf(runtime, client, facts, shapeOf(facts, name, changed(known, options)));
  };
  return call;
}

function callOf(runtime: Runtime, client: ActorClient, facts: HandleFacts, shape: CallShape): Call {
  const limit = facts.maxPendingCalls;
  const call: Call = (...args) => {
    if (limit > 0 && client.pendingCount >= limit)
      throw new PendingCallsLimitError({ actorId: facts.actorId, className: facts.className, maxPendingCalls: limit });
    const { invocation, given } = startCall(runtime, client, shape, args, call);
    if (limit > 0) client.count(invocation);
    client.send(invocation);
    return given;
  };
  return call;
}

const shapeOf = (facts: HandleFacts, name: string, method: MethodFacts): CallShape => ({
  name: `${facts.className}.${name}`,
  method: name,
  code: undefined,
  retries: method.retries,
  retryOn: method.retryOn,
  returns: method.returns,
  aheadMax: method.aheadMax,
  group: method.group || undefined,
  priority: 0,
});

const changed = (known: MethodFacts, options: CallOptions): MethodFacts => ({
  returns:
    options.numReturns === undefined
      ? known.returns
      : options.numReturns === 'streaming'
        ? 'items'
        : options.numReturns,
  retries: options.maxTaskRetries ?? known.retries,
  retryOn: known.retryOn,
  aheadMax: options.generatorBackpressure ?? known.aheadMax,
  group: options.concurrencyGroup ?? known.group,
});

/** Turns handles into what travels and back. */
export const handleHost = (runtime: Runtime): HandleHost => ({
  exportHandle: (handle) => ({ ...targetOf(handle).facts }),
  importHandle: (travelled) => makeHandle(runtime, travelled as HandleFacts),
});

export const targetOf = (handle: object): HandleTarget => {
  const target = targets.get(handle);
  if (!target) throw new ConfigError('handle', 'an actor handle', handle, 'create() and getActor() return handles');
  return target;
};

/** Ends an actor at once: calls that this process makes afterwards fail. With `restart: true` only its process, and `maxRestarts` counts. */
export async function kill(handle: object, options: { readonly restart?: boolean } = {}): Promise<void> {
  await end(handle, { noRestart: !options.restart, graceMs: 0 });
}

const GRACE_MS = 30_000; // as in Ray

/**
 * Ends an actor in good order: it takes no more calls, ends those that it has, runs its exit hooks (`onExit`,
 * `Symbol.asyncDispose`, `Symbol.dispose`); after `graceMs` (default 30 s) it is killed.
 */
export async function stop(handle: object, options: { readonly graceMs?: number } = {}): Promise<void> {
  const { graceMs = GRACE_MS } = options;
  if (!(Number.isInteger(graceMs) && graceMs > 0))
    throw new ConfigError(
      'graceMs',
      'a positive integer of milliseconds',
      graceMs,
      'kill(handle) ends an actor at once',
    );
  const { awake } = currentRuntime();
  await awake.during(targetOf(handle).client.arrived());
  await end(handle, { noRestart: true, graceMs });
}

async function end(handle: object, how: { readonly noRestart: boolean; readonly graceMs: number }): Promise<void> {
  const { client } = targetOf(handle);
  const incarnation = how.noRestart ? 0 : (client.info.incarnation ?? 0);
  const { head } = currentRuntime();
  const reply = await head.request({ killActor: { actorId: client.actorId, ...how, incarnation } });
  if (reply.actor) client.inform(reply.actor);
}

/** The id of a handle's actor, e.g. for `raylite get actors`. */
export const actorIdOf = (handle: object): ActorId => targetOf(handle).facts.actorId;
