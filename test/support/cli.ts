// The command line as users have it: bundled.
import { join } from 'node:path';
import { PACKAGE_ROOT } from '#src/common/index.js';

/** What `node` runs as `raylite`. */
export const CLI = join(PACKAGE_ROOT, 'dist/cli/main.js');
