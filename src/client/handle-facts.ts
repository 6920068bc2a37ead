// What a caller must know of an actor to call it: part of its handle, kept by the head for those who find it by name.
import type { ActorId } from '../common/index.js';
import { decodePlain, encodePlain, wire } from '../protocol/index.js';
import type { PackageFolder } from './code-ref.js';
import type { CallShape } from './invocation.js';
import type { ActorOptions, CallOptions } from './options.js';
import { namesOf } from './retry-rules.js';
import { returnsOf } from './returns.js';

export interface MethodFacts {
  readonly returns: CallShape['returns'];
  readonly retries: number;
  readonly retryOn: wire.CodeRef.$Properties[] | undefined;
  readonly aheadMax: number;
  readonly group: string;
}

export interface ClassFacts {
  readonly className: string;
  readonly maxPendingCalls: number; // 0: any number
  readonly methods: ReadonlyMap<string, MethodFacts>;
}

export interface HandleFacts extends ClassFacts {
  readonly actorId: ActorId;
}

export const encodeFacts = (facts: ClassFacts): Uint8Array =>
  wire.Value.encode(encodePlain({ ...facts }, 'the handle')).finish();

export function decodeFacts(actor: wire.ActorInfo.$Properties): HandleFacts {
  const facts = decodePlain(wire.Value.decode(actor.handle ?? new Uint8Array())) as ClassFacts;
  return { ...facts, actorId: (actor.actorId ?? '') as ActorId };
}

/** The facts of a class with these options. Rejects with CodeNotFoundError for a `retryOn` that workers cannot find. */
export async function factsOf(
  ActorClass: { readonly name: string; readonly prototype: unknown },
  options: ActorOptions,
  packages: readonly PackageFolder[],
): Promise<ClassFacts> {
  const methods = new Map<string, MethodFacts>();
  const given: Readonly<Record<string, CallOptions & Pick<ActorOptions, 'retryOn'>>> = options.methods ?? {};
  const retryOn = await namesOf(options.retryOn, packages);
  for (const [name, run] of methodsOf(ActorClass)) {
    const own = Object.hasOwn(given, name) ? given[name] : undefined;
    methods.set(name, {
      returns: returnsOf(run, own?.numReturns),
      retries: own?.maxTaskRetries ?? options.maxTaskRetries ?? 0,
      retryOn: own?.retryOn === undefined ? retryOn : await namesOf(own.retryOn, packages),
      aheadMax: own?.generatorBackpressure ?? 0,
      group: own?.concurrencyGroup ?? '',
    });
  }
  return { className: ActorClass.name, maxPendingCalls: options.maxPendingCalls ?? 0, methods };
}

/** The methods of a class and of those that it extends, by name. */
export function methodsOf(ActorClass: { readonly prototype: unknown }): ReadonlyMap<string, unknown> {
  const methods = new Map<string, unknown>();
  for (let at = ActorClass.prototype as object | null; at && at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(at)))
      if (name !== 'constructor' && !methods.has(name)) methods.set(name, value);
  }
  return methods;
}
