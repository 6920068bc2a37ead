// Functions and classes by name: asks V8 which script a function came from, imports that module, and looks for the export
// that is the same function. So users write `actor(Counter)` with no decorator and no strings.
import { realpathSync } from 'node:fs';
import { type Debugger, type Runtime as Inspected, Session } from 'node:inspector';
import { relative, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { CodeNotFoundError } from '../common/index.js';
import type { wire } from '../protocol/index.js';

// biome-ignore lint/complexity/noBannedTypes: any function or class of a user's module
export type Code = Function;

/** A folder whose content travels as a package: modules inside are named relative to it. */
export interface PackageFolder {
  readonly path: string;
  readonly package: string;
}

const found = new WeakMap<Code, Promise<{ readonly url: string; readonly name: string }>>();
const LOOKUP = Symbol.for('raylite.code-lookup');

/** How workers find `code`. Rejects with {@link CodeNotFoundError} saying what to change. */
export async function codeRefOf(code: Code, packages: readonly PackageFolder[]): Promise<wire.CodeRef.$Properties> {
  let place = found.get(code);
  if (!place) {
    place = locate(code);
    found.set(code, place);
    place.catch(() => {});
  }
  const { url, name } = await place;
  const path = fileURLToPath(url);
  for (const folder of packages) {
    const inside = relative(folder.path, path);
    if (!inside.startsWith('..') && !inside.startsWith(sep)) return { module: inside, name, package: folder.package };
  }
  return { module: url, name };
}

async function locate(code: Code): Promise<{ url: string; name: string }> {
  const functionName = code.name || 'the function';
  const missing = (detail: string, cause?: unknown): CodeNotFoundError =>
    new CodeNotFoundError({ functionName, detail }, cause === undefined ? undefined : { cause });
  const source = scriptOf(code);
  if (!source)
    throw missing('it is built in or bound, and workers cannot find it. Export a function of a module of yours');
  if (!source.startsWith('file:'))
    throw missing(
      `it comes from ${source || 'evaluated text'}, which workers cannot load. Move it to a module file and export it`,
    );
  const url = source.split('?')[0]!;
  const path = fileURLToPath(url);
  const entry = process.argv[1];
  if (entry !== undefined && samePath(path, entry))
    throw missing(
      `it is defined in the entry script ${path}, which workers must not run. Move it to a module of its own, export it there and import it here`,
    );
  let module: Record<string, unknown>;
  try {
    module = (await import(source)) as Record<string, unknown>;
  } catch (cause) {
    throw missing(`its module ${path} cannot be imported`, cause);
  }
  const name = Object.keys(module).find((key) => module[key] === code);
  if (name !== undefined) return { url, name };
  // A CommonJS module that was loaded through `require` shows its exports as the default export.
  const inner = module.default;
  const innerName =
    typeof inner === 'object' && inner !== null
      ? Object.entries(inner).find(([, value]) => value === code)?.[0]
      : undefined;
  if (innerName !== undefined) return { url, name: innerName };
  throw missing(
    `${path} does not export it. Write "export" before its definition; functions made inside other functions cannot be sent: pass what they capture as arguments`,
  );
}

function samePath(path: string, entry: string): boolean {
  try {
    const real = realpathSync(path);
    const main = realpathSync(entry);
    return real === main || real === realpathSync(`${entry}.js`);
  } catch {
    return path === entry;
  }
}

/** The URL of the script that defines `code`, or null. */
function scriptOf(code: Code): string | null {
  const session = new Session();
  session.connect();
  const globals = globalThis as Record<symbol, unknown>;
  try {
    globals[LOOKUP] = code;
    const urls = new Map<string, string>();
    session.on('Debugger.scriptParsed', ({ params }: { params: Debugger.ScriptParsedEventDataType }) => {
      urls.set(params.scriptId, params.url);
    });
    session.post('Debugger.enable');
    let objectId: string | undefined;
    session.post(
      'Runtime.evaluate',
      { expression: `globalThis[Symbol.for('raylite.code-lookup')]` },
      (error, reply) => {
        if (!error) objectId = reply.result.objectId;
      },
    );
    if (objectId === undefined) return null;
    let script: string | null = null;
    session.post('Runtime.getProperties', { objectId, ownProperties: true }, (error, reply) => {
      if (error) return;
      const place = reply.internalProperties?.find(({ name }) => name === '[[FunctionLocation]]');
      const at = place?.value?.value as Inspected.RemoteObject['value'] as { scriptId: string } | undefined;
      if (at) script = urls.get(at.scriptId) ?? '';
    });
    session.post('Debugger.disable');
    return script;
  } finally {
    delete globals[LOOKUP];
    session.disconnect();
  }
}

/** The export that `ref` names, loaded in this process. Rejects with {@link CodeNotFoundError}. */
export async function loadCode(ref: wire.CodeRef.$Properties, packageRoot: string): Promise<unknown> {
  const specifier = ref.module ?? '';
  const name = ref.name ?? '';
  const sha = ref.package ?? '';
  const url = sha ? pathToFileURL(`${packageRoot}${sep}${sha}${sep}${specifier}`).href : specifier;
  if (/\.[mc]?tsx?$/.test(url)) await enableTypeScript();
  let module: Record<string, unknown>;
  try {
    module = (await import(url)) as Record<string, unknown>;
  } catch (cause) {
    const detail = `its module ${specifier} cannot be loaded by the worker: ${cause instanceof Error ? cause.message : String(cause)}`;
    throw new CodeNotFoundError({ functionName: name, detail }, { cause });
  }
  const inner = module.default as Record<string, unknown> | undefined;
  const value = module[name] ?? (typeof inner === 'object' ? inner?.[name] : undefined);
  if (value === undefined)
    throw new CodeNotFoundError({
      functionName: name,
      detail: `the module ${specifier} that the worker loaded has no such export`,
    });
  return value;
}

/**
 * Makes imports of TypeScript work in this process. Node's own support (from 22.18 on) knows neither enums, parameter
 * properties nor "./x.js" for x.ts, which drivers that run under tsx use.
 */
async function enableTypeScript(): Promise<void> {
  const globals = globalThis as Record<symbol, unknown>;
  const done = Symbol.for('raylite.tsx');
  globals[done] ??= import('tsx/esm/api').then(({ register }) => register());
  await globals[done];
}
