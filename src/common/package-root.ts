// Where this installation is. Its code runs from dist/ (bundled, what users have) or from build/js/ (file by file, what
// tests import), so that places are found from its package.json, not from the file that asks.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

interface Manifest {
  readonly name?: string;
  readonly version: string;
}

const NAME = 'raylite';

function findPackage(from: string): { readonly root: string; readonly manifest: Manifest } {
  const path = join(from, 'package.json');
  if (existsSync(path)) {
    const manifest = JSON.parse(readFileSync(path, 'utf8')) as Manifest;
    if (manifest.name === NAME) return { root: from, manifest };
  }
  if (dirname(from) === from)
    throw new Error(`raylite is not installed whole: no package.json of it above ${import.meta.url}`);
  return findPackage(dirname(from));
}

const { root, manifest } = findPackage(dirname(fileURLToPath(import.meta.url)));

/** The folder of package.json. */
export const PACKAGE_ROOT = root;

/** The version of this installation. */
export const RAYLITE_VERSION = manifest.version;
