// What calls take and give, as types; and how a function says by its kind what it gives.
import type { CallShape } from './invocation.js';
import type { ObjectRef } from './object-ref.js';
import type { ObjectRefGenerator } from './object-ref-generator.js';

/** Arguments as callers may give them: each a value or a ref to one. */
export type Arguments<Args extends readonly unknown[]> = {
  [Index in keyof Args]: Args[Index] | ObjectRef<Args[Index]>;
};

/** What a call of a function with that result gives: a ref, or the refs of what a generator yields. */
export type Returned<Result> = [Result] extends [never]
  ? ObjectRef<never>
  : 0 extends 1 & Result // of an unknown type
    ? ObjectRef<Result>
    : Result extends AsyncGenerator<infer Item, unknown, never> | Generator<infer Item, unknown, never>
      ? ObjectRefGenerator<Awaited<Item>>
      : ObjectRef<Awaited<Result>>;

/** With `numReturns: k`: the refs of the k values of a list. */
export type RefsOf<Result> =
  Awaited<Result> extends infer List extends readonly unknown[]
    ? { readonly [Index in keyof List]: ObjectRef<List[Index]> }
    : never;

/** With `numReturns: 'streaming'`: what an iterable gives. */
export type ItemOf<Result> = Result extends AsyncIterable<infer Item> | Iterable<infer Item> ? Awaited<Item> : never;

const GENERATORS = ['[object GeneratorFunction]', '[object AsyncGeneratorFunction]'];

/** The shape of what a call of `run` gives. */
export function returnsOf(run: unknown, numReturns: number | 'streaming' | undefined): CallShape['returns'] {
  if (typeof numReturns === 'number') return numReturns;
  return numReturns === 'streaming' || GENERATORS.includes(Object.prototype.toString.call(run)) ? 'items' : 'value';
}
