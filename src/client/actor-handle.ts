// Actors as users see them: `actor(Class, options).create(...)` and the typed handle it gives.
import { inspect } from 'node:util';
import { type ActorId, ConfigError, newActorId } from '../common/index.js';
import { defineReferences } from '../protocol/index.js';
import { ActorClient } from './actor-client.js';
import { type Code, codeRefOf } from './code-ref.js';
import { currentRuntime } from './current.js';
import { encodeSpecArguments, invocation } from './invoke.js';
import { ObjectRef } from './object-ref.js';
import { type ActorOptions, checkActorOptions, resourcesOf } from './options.js';
import { packageFolders } from './package-folders.js';
import type { HandleHost, Runtime } from './runtime.js';

/** Arguments as callers may give them: each a value or a ref to one. */
export type Arguments<Args extends readonly unknown[]> = {
  [Index in keyof Args]: Args[Index] | ObjectRef<Args[Index]>;
};

type Method<Member> = Member extends (...args: infer Args) => infer Result
  ? (...args: Arguments<Args>) => ObjectRef<Awaited<Result>>
  : never;

/** An actor, callable from any process: the public methods of its class, each giving a ref. Travels inside values. */
export type ActorHandle<Actor> = {
  readonly [Name in keyof Actor as Actor[Name] extends (...args: never[]) => unknown ? Name : never]: Method<
    Actor[Name]
  >;
} & { readonly [actorBrand]: true };
declare const actorBrand: unique symbol;

interface HandleFacts {
  readonly actorId: ActorId;
  readonly className: string;
  readonly maxTaskRetries: number;
  /** Names of methods, where the class is known here; null accepts any and lets the worker refuse. */
  readonly methods: ReadonlySet<string> | null;
}

/** What a handle's proxy stands before. */
class HandleTarget {
  readonly client: ActorClient;
  readonly facts: HandleFacts;
  readonly calls = new Map<string, (...args: unknown[]) => ObjectRef<unknown>>();
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

function makeHandle(runtime: Runtime, facts: HandleFacts): object {
  const { actorId, className } = facts;
  const client = runtime.actors.get(actorId) ?? new ActorClient(runtime, actorId, className);
  runtime.actors.set(actorId, client);
  const target = new HandleTarget(client, facts);
  const methodOf = (name: string): ((...args: unknown[]) => ObjectRef<unknown>) => {
    if (facts.methods && !facts.methods.has(name))
      throw new TypeError(`${className} has no method ${JSON.stringify(name)}`);
    const label = `${className}.${name}`;
    const method = { method: name };
    const call = (...args: unknown[]): ObjectRef<unknown> => {
      const started = invocation(runtime, client, label, method, args, facts.maxTaskRetries, call, null);
      client.send(started.invocation);
      return started.ref;
    };
    return call;
  };
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
        call = methodOf(name);
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

interface TravellingHandle {
  readonly actorId: string;
  readonly className: string;
  readonly maxTaskRetries: number;
  readonly methods: readonly string[] | null;
}

/** Turns handles into what travels and back. */
export const handleHost = (runtime: Runtime): HandleHost => ({
  exportHandle(handle): TravellingHandle {
    const { actorId, className, maxTaskRetries, methods } = targetOf(handle).facts;
    return { actorId, className, maxTaskRetries, methods: methods && [...methods] };
  },
  importHandle(travelled): object {
    const { actorId, className, maxTaskRetries, methods } = travelled as TravellingHandle;
    const names = methods && new Set(methods);
    return makeHandle(runtime, { actorId: actorId as ActorId, className, maxTaskRetries, methods: names });
  },
});

const targetOf = (handle: object): HandleTarget => {
  const target = targets.get(handle);
  if (!target) throw new ConfigError('handle', 'an actor handle', handle, 'create() and getActor() return handles');
  return target;
};

type Class<Args extends readonly unknown[], Actor> = new (...args: Args extends unknown[] ? Args : never) => Actor;

export interface ActorMaker<Args extends readonly unknown[], Actor> {
  /**
   * Starts the actor: places it, runs its constructor in a process of its own. Resolves when it serves calls. Rejects with
   * ActorDiedError (cause: what the constructor threw), InfeasibleError, CodeNotFoundError.
   */
  create(...args: Arguments<Args>): Promise<ActorHandle<Actor>>;
}

/** Actors of an exported class: `await actor(Counter, { cpus: 1 }).create(5)`. */
export function actor<Args extends readonly unknown[], Actor>(
  ActorClass: Class<Args, Actor>,
  options: ActorOptions = {},
): ActorMaker<Args, Actor> {
  if (!isConstructor(ActorClass)) throw new ConfigError('actor', 'a class', ActorClass);
  checkActorOptions(options);
  return {
    async create(...args) {
      const runtime = currentRuntime();
      const code = await codeRefOf(ActorClass as Code, packageFolders(runtime));
      const actorId = newActorId();
      const className = ActorClass.name;
      const spec = encodeSpecArguments(runtime, args, `new ${className}`);
      const handle = makeHandle(runtime, {
        actorId,
        className,
        maxTaskRetries: options.maxTaskRetries ?? 0,
        methods: methodsOf(ActorClass),
      });
      await runtime.head.request({
        createActor: {
          actorId,
          code,
          args: spec.args,
          maxConcurrency: options.maxConcurrency ?? 1,
          name: options.name ?? '',
          namespace: options.namespace ?? runtime.namespace,
          maxRestarts: options.maxRestarts ?? 0,
          isDetached: options.lifetime === 'detached',
          resources: { amounts: resourcesOf(options, 0) },
          runtimeEnv: runtime.runtimeEnv,
          className,
          labelSelector: { ...options.labels },
          schedulingStrategy: options.schedulingStrategy ?? 'DEFAULT',
          waitsIfInfeasible: options.infeasible === 'wait',
        },
      });
      await targetOf(handle).client.ready();
      // A restarted actor needs its constructor's arguments again: kept as long as this process knows the actor.
      targetOf(handle).client.keep(spec.keeps);
      return handle as ActorHandle<Actor>;
    },
  };
}

/** Whether `new` works on it: functions written as arrows or methods have no prototype. */
const isConstructor = (value: unknown): boolean =>
  typeof value === 'function' && typeof value.prototype === 'object' && value.prototype !== null;

function methodsOf(ActorClass: { readonly prototype: unknown }): ReadonlySet<string> {
  const names = new Set<string>();
  for (let at = ActorClass.prototype as object | null; at && at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    for (const name of Object.getOwnPropertyNames(at)) if (name !== 'constructor') names.add(name);
  }
  return names;
}

/** The live actor of that name. Give its class as type: `await getActor<Counter>('hits')`. Rejects with ConfigError when there is none. */
export async function getActor<Actor>(
  name: string,
  options: { readonly namespace?: string } = {},
): Promise<ActorHandle<Actor>> {
  const runtime = currentRuntime();
  const reply = await runtime.head.request({ getActor: { name, namespace: options.namespace ?? runtime.namespace } });
  const info = reply.actor ?? {};
  const handle = makeHandle(runtime, {
    actorId: (info.actorId ?? '') as ActorId,
    className: info.className ?? '',
    maxTaskRetries: 0,
    methods: null,
  });
  targetOf(handle).client.inform(info);
  return handle as ActorHandle<Actor>;
}

/** Ends an actor at once: calls that this process makes afterwards fail. With `restart: true` only its process, and `maxRestarts` counts. */
export async function kill(handle: object, options: { readonly restart?: boolean } = {}): Promise<void> {
  const { client } = targetOf(handle);
  const reply = await currentRuntime().head.request({
    killActor: { actorId: client.actorId, noRestart: !options.restart },
  });
  if (reply.actor) client.inform(reply.actor);
}

/** The id of a handle's actor, e.g. for `raylite get actors`. */
export const actorIdOf = (handle: object): ActorId => targetOf(handle).facts.actorId;
