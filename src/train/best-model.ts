// The model of the best measurement of a run, kept beside its checkpoints until a better one takes its place. Each has a folder named by its step, so
// that a run which goes on from an earlier checkpoint finds what that knew of, or writes it again.
import { access, cp, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Prepared } from './prepare.js';
import type { RankGroup } from './rank-group.js';

const folderOf = ({ runPath }: Prepared, step: number): string =>
  join(runPath, `best-${String(step).padStart(6, '0')}`);

/** What a run leaves, in `folder`: the model with its tokenizer, and under LoRA the adapter beside it. All ranks take part. */
export async function exportAll(group: RankGroup, prepared: Prepared, folder: string): Promise<void> {
  const model = join(folder, 'model');
  await group.all((rank) => rank.exportModel(model));
  await prepared.tokenizer.save(model);
  if (prepared.isAdapter) await group.all((rank) => rank.exportAdapter(join(folder, 'adapter')));
}

/** Keeps the model as it is behind `step` in place of the one kept before. */
export async function keepBest(group: RankGroup, prepared: Prepared, step: number): Promise<void> {
  const folder = folderOf(prepared, step);
  await rm(folder, { recursive: true, force: true }); // of a try that ended while it wrote
  await exportAll(group, prepared, folder);
  for (const entry of await readdir(prepared.runPath)) {
    const other = join(prepared.runPath, entry);
    if (/^best-\d{6,}$/.test(entry) && other !== folder) await rm(other, { recursive: true, force: true });
  }
}

/** Makes the model kept behind `step` the one that the run leaves. False where it is not there any more. */
export async function leaveBest(prepared: Prepared, step: number): Promise<boolean> {
  const folder = folderOf(prepared, step);
  const names = prepared.isAdapter ? ['model', 'adapter'] : ['model'];
  for (const name of names) {
    const kept = join(folder, name);
    const isThere = await access(kept).then(
      () => true,
      () => false,
    );
    if (!isThere) return false;
    await rm(join(prepared.runPath, name), { recursive: true, force: true });
    await cp(kept, join(prepared.runPath, name), { recursive: true });
  }
  return true;
}
