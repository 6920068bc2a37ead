// A folder that stores the weights of a sibling in another way: every value must be the same.
import { dirname, join } from 'node:path';
import { Checkpoint } from '#src/models/index.js';
import { Checks, LIMITS } from './checks.js';
import type { GoldenFolder } from './folder.js';

export async function compareWeights(folder: GoldenFolder, sibling: string): Promise<Checks> {
  const checks = new Checks();
  await using ours = await Checkpoint.open(folder.path);
  await using theirs = await Checkpoint.open(join(dirname(folder.path), sibling));
  for (const name of theirs.parameters.keys()) {
    checks.arrays(name, await ours.read(name), await theirs.read(name), LIMITS.equal);
  }
  return checks;
}
