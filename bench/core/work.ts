// The work of the core figures, that of Ray's own microbenchmark: a function and a method that return two bytes.

export class SmallActor {
  value(): string {
    return 'ok';
  }
}

export function smallTask(): string {
  return 'ok';
}
