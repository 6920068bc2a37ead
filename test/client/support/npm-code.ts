// What the tests of npm environments run: code that imports a package which only an environment has.
export async function greeting(): Promise<string> {
  const { greet } = (await import('rl-greeter' as string)) as { greet: () => string };
  return greet();
}
