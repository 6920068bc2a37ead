// Actors as users make and find them: `actor(Class, options).create(...)`, `getActor(name)`.
import { ConfigError, newActorId } from '../common/index.js';
import type { wire } from '../protocol/index.js';
import { type ActorHandle, makeHandle, targetOf } from './actor-handle.js';
import { type Code, codeRefOf } from './code-ref.js';
import { currentRuntime } from './current.js';
import { decodeFacts, encodeFacts, factsOf, methodsOf } from './handle-facts.js';
import { encodeSpecArguments } from './invoke.js';
import { type ActorOptions, bundleOf, checkActorOptions, checkKeys, resourcesOf } from './options.js';
import { packageFolders } from './package-folders.js';
import type { Arguments } from './returns.js';
import type { Runtime } from './runtime.js';
import { runtimeEnvWith } from './runtime-env.js';

type Class<Args extends readonly unknown[], Actor> = new (...args: Args extends unknown[] ? Args : never) => Actor;

/** Makes actors of one class with one set of options. */
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
  options: ActorOptions<Actor> = {},
): ActorMaker<Args, Actor> {
  if (!isConstructor(ActorClass)) throw new ConfigError('actor', 'a class', ActorClass);
  checkActorOptions(options, methodsOf(ActorClass));
  return {
    async create(...args) {
      const runtime = currentRuntime();
      const packages = packageFolders(runtime);
      const code = await codeRefOf(ActorClass as Code, packages);
      const actorId = newActorId();
      const className = ActorClass.name;
      const spec = encodeSpecArguments(runtime, args, `new ${className}`);
      const facts = await factsOf(ActorClass, options, packages);
      const handle = makeHandle(runtime, { ...facts, actorId });
      const bundle = bundleOf(options, runtime.bundle);
      const reply = await runtime.head.request({
        createActor: {
          actorId,
          code,
          args: spec.args,
          maxConcurrency: options.maxConcurrency ?? 1,
          concurrencyGroups: { ...options.concurrencyGroups },
          name: options.name ?? '',
          namespace: options.namespace ?? runtime.namespace,
          getOrCreate: options.getOrCreate ?? false,
          maxRestarts: options.maxRestarts ?? 0,
          isDetached: options.lifetime === 'detached',
          resources: { amounts: resourcesOf(options, 0) },
          runtimeEnv: await runtimeEnvWith(runtime.runtimeEnv, options.runtimeEnv, packages),
          className,
          labelSelector: { ...options.labels },
          fallbackSelectors: (options.fallbackLabels ?? []).map((labels) => ({ labels })),
          schedulingStrategy: options.schedulingStrategy ?? 'DEFAULT',
          waitsIfInfeasible: options.infeasible === 'wait',
          handle: encodeFacts(facts),
          ...(bundle ? { bundle } : {}),
        },
      });
      const info = reply.actor ?? {};
      if (info.actorId !== actorId) {
        runtime.actors.delete(actorId);
        const existing = handleOf(runtime, info);
        await targetOf(existing).client.ready();
        return existing as ActorHandle<Actor>;
      }
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

function handleOf(runtime: Runtime, info: wire.ActorInfo.$Properties): object {
  const handle = makeHandle(runtime, decodeFacts(info));
  targetOf(handle).client.inform(info);
  return handle;
}

/** The live actor of that name. Give its class as type: `await getActor<Counter>('hits')`. Rejects with ConfigError when there is none. */
export async function getActor<Actor>(
  name: string,
  options: { readonly namespace?: string } = {},
): Promise<ActorHandle<Actor>> {
  checkKeys(options, ['namespace']);
  const runtime = currentRuntime();
  const reply = await runtime.head.request({ getActor: { name, namespace: options.namespace ?? runtime.namespace } });
  return handleOf(runtime, reply.actor ?? {}) as ActorHandle<Actor>;
}

/** A name that a live actor has, and the namespace in which it is unique. */
export interface NamedActor {
  readonly name: string;
  readonly namespace: string;
}

/** The live actors that have a name, in this process's namespace or in all. */
export async function listNamedActors(
  options: { readonly allNamespaces?: boolean } = {},
): Promise<readonly NamedActor[]> {
  checkKeys(options, ['allNamespaces']);
  const { head, namespace } = currentRuntime();
  const reply = await head.request({
    listNamedActors: { namespace, allNamespaces: options.allNamespaces ?? false },
  });
  return (reply.namedActors?.actors ?? []).map((found) => ({
    name: found.name ?? '',
    namespace: found.namespace ?? '',
  }));
}

/** What {@link exitActor} throws: not for users to catch. */
export class ActorExit extends Error {
  override readonly name = 'ActorExit';
}

/**
 * Ends the actor whose method calls it, after its exit hooks; it is not started again. The call, and those that wait behind
 * it, fail with ActorDiedError. Throws, so that nothing after it runs. Throws ConfigError outside of an actor.
 */
export function exitActor(): never {
  if (!currentRuntime().actor) throw new ConfigError('exitActor', 'to be called in a method of an actor', 'elsewhere');
  throw new ActorExit('the actor ends');
}
