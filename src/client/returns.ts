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

/** What is asked of a call: its value or generator, so many parts of it, or its items. */
type Wish = 'value' | 'parts' | 'items';
type Given<Result, Wished extends Wish> = Wished extends 'items'
  ? ObjectRefGenerator<ItemOf<Result>>
  : Wished extends 'parts'
    ? RefsOf<Result>
    : Returned<Result>;

/** How a function of these arguments and this result is called from elsewhere. */
export type Start<Args extends readonly unknown[], Result, Wished extends Wish = 'value'> = (
  ...args: Arguments<Args>
) => Given<Result, Wished>;

/** The same of each overload of a function. */
export type Starts<Fn, Wished extends Wish = 'value'> =
  Overloads<Fn> extends [
    [infer A extends readonly unknown[], infer R],
    [infer B extends readonly unknown[], infer S],
    [infer C extends readonly unknown[], infer T],
    [infer D extends readonly unknown[], infer U],
  ]
    ? Start<A, R, Wished> & Start<B, S, Wished> & Start<C, T, Wished> & Start<D, U, Wished>
    : never;

/** Arguments and result of each overload of a function, up to four; where there are fewer, the first stands for the rest. */
type Overloads<Fn> = Fn extends {
  (...args: infer A): infer R;
  (...args: infer B): infer S;
  (...args: infer C): infer T;
  (...args: infer D): infer U;
}
  ? [[A, R], [B, S], [C, T], [D, U]]
  : never;

/** `Fn` where it has overloads, else nothing. */
export type Overloaded<Fn> =
  Overloads<Fn> extends [infer First, unknown, unknown, infer Last] ? ([First] extends [Last] ? never : Fn) : never;

const GENERATORS = ['[object GeneratorFunction]', '[object AsyncGeneratorFunction]'];

/** The shape of what a call of `run` gives. */
export function returnsOf(run: unknown, numReturns: number | 'streaming' | undefined): CallShape['returns'] {
  if (typeof numReturns === 'number') return numReturns;
  return numReturns === 'streaming' || GENERATORS.includes(Object.prototype.toString.call(run)) ? 'items' : 'value';
}
