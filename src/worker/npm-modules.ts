// Makes the packages of an npm environment those that code of this process imports by name. Code inside a package's own
// node_modules keeps what it was installed with.
import Module, { register } from 'node:module';
import { join } from 'node:path';

/** The hook runs on a thread of its own, from its own source; `folder` has a package.json and node_modules. */
const HOOK = `
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
let parentURL = '';
let names = new Set();
export function initialize(folder) {
  parentURL = pathToFileURL(join(folder, 'package.json')).href;
  names = new Set(Object.keys(JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).dependencies ?? {}));
}
const nameOf = (specifier) => specifier.split('/').slice(0, specifier.startsWith('@') ? 2 : 1).join('/');
export function resolve(specifier, context, next) {
  const isOurs = names.has(nameOf(specifier)) && !(context.parentURL ?? '').includes('/node_modules/');
  return next(specifier, isOurs ? { ...context, parentURL } : context);
}`;

export function useNpmModules(folder: string): void {
  register(`data:text/javascript,${encodeURIComponent(HOOK)}`, { data: folder });
  // For require, and for processes that this one starts.
  process.env.NODE_PATH = [join(folder, 'node_modules'), process.env.NODE_PATH].filter(Boolean).join(':');
  (Module as unknown as { _initPaths(): void })._initPaths();
}
