// What an actor does before it ends in good order.

interface Hooks {
  onExit?(): unknown;
  [Symbol.asyncDispose]?(): unknown;
  [Symbol.dispose]?(): unknown;
}

/** Runs `onExit`, then the actor's disposal. What they throw is shown in its output, and the end goes on. */
export async function runExitHooks(instance: object, className: string): Promise<void> {
  const hooks = instance as Hooks;
  const dispose = hooks[Symbol.asyncDispose] ?? hooks[Symbol.dispose];
  for (const hook of [hooks.onExit, dispose]) {
    try {
      if (typeof hook === 'function') await hook.call(instance);
    } catch (error) {
      console.error(`raylite: an exit hook of ${className} failed:`, error);
    }
  }
}
