// Folders whose content workers have as packages: modules inside are named relative to them.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { PackageFolder } from './code-ref.js';
import type { Runtime } from './runtime.js';

/** The folder that `init` uploaded, and the packages that this machine unpacked (of which this process may itself run). */
export function packageFolders(runtime: Runtime): readonly PackageFolder[] {
  const folders: PackageFolder[] = runtime.workingDir ? [runtime.workingDir] : [];
  const root = runtime.attached.packageRoot;
  let names: string[] = [];
  try {
    names = readdirSync(root);
  } catch {
    // no package was ever unpacked here
  }
  for (const name of names) if (/^[0-9a-f]{64}$/.test(name)) folders.push({ path: join(root, name), package: name });
  return folders;
}
