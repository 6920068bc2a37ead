// The version of this installation, from its package.json.
import { createRequire } from 'node:module';

const manifest = createRequire(import.meta.url)('../../package.json') as { readonly version: string };

export const RAYLITE_VERSION: string = manifest.version;
