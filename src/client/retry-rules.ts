// Which errors of user code may be tried again: named here, judged by the worker, where the error has its own class.
import { ConfigError } from '../common/index.js';
import type { wire } from '../protocol/index.js';
import { type Code, codeRefOf, type PackageFolder } from './code-ref.js';

/** A class of errors, or an exported function that says whether an error may be tried again. */
export type RetryRule = (new (...args: never[]) => Error) | ((error: unknown) => boolean);

/** `true`: whatever the code throws. */
export type RetryOn = true | readonly RetryRule[];

const EVERYTHING = '*';

export function checkRetryOn(path: string, rules: RetryOn | undefined): void {
  if (rules === undefined || rules === true) return;
  if (!Array.isArray(rules) || !rules.every((rule) => typeof rule === 'function'))
    throw new ConfigError(path, 'true, or a list of error classes and exported predicates', rules);
}

/** The names of the rules. Rejects with CodeNotFoundError for what workers cannot find. */
export async function namesOf(
  rules: RetryOn | undefined,
  packages: readonly PackageFolder[],
): Promise<wire.CodeRef.$Properties[] | undefined> {
  if (rules === undefined) return undefined;
  if (rules === true) return [{ name: EVERYTHING }];
  return await Promise.all(
    rules.map((rule) => (isGlobal(rule) ? { name: rule.name } : codeRefOf(rule as Code, packages))),
  );
}

const isGlobal = (rule: RetryRule): boolean => (globalThis as Record<string, unknown>)[rule.name] === rule;

/** Whether one of `rules` accepts what was thrown. A predicate that throws accepts nothing. */
export async function acceptsRetry(
  thrown: unknown,
  rules: readonly wire.CodeRef.$Properties[],
  load: (rule: wire.CodeRef.$Properties) => Promise<unknown>,
): Promise<boolean> {
  for (const rule of rules) {
    if (rule.name === EVERYTHING && !rule.module) return true;
    try {
      const found = rule.module ? await load(rule) : (globalThis as Record<string, unknown>)[rule.name ?? ''];
      if (typeof found !== 'function') continue;
      const isClass = found === Error || found.prototype instanceof Error;
      if (isClass ? thrown instanceof found : (found as (error: unknown) => unknown)(thrown) === true) return true;
    } catch {
      // no accepted answer
    }
  }
  return false;
}
