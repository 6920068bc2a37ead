// What a plan says is what processes take: peak resident memory above what they had before, on a model of some 400 MB, for one process
// and for ranks in processes of their own, each with its part of what is exchanged through.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { temporaryFolder } from '../support/temporary-folder.js';
import type { MemoryCase } from './memory-case.js';

/** The young generation of V8, which is no part of a plan, else grows or shrinks by 16 MB whenever it likes. */
const FLAGS = ['--expose-gc', '--max-semi-space-size=1'];
const CHILD = fileURLToPath(import.meta.resolve('./memory-child.js'));
const skip = !existsSync('/proc/self/status') && 'needs /proc';
const folder = temporaryFolder();
after(() => folder[Symbol.dispose]());

const ALONE = { zeroStage: 0, ranks: 1, recompute: 'none', tuning: {}, offload: {} } as const;
/** Little is kept from one use of a parameter to the next, or fetched ahead. */
const TIGHT = { maxReuseDistance: 0, prefetchBucketSize: 4e6 };
const FILE = {
  folder: folder.path,
  blockBytes: 2 ** 20,
  queueDepth: 8,
  threads: 1,
  singleSubmit: false,
  overlapEvents: true,
};
const ON_DISK = { hostElementsMax: 0, buffers: 2, bufferElements: 1e6, file: FILE };

const CASES: Readonly<Record<string, Omit<MemoryCase, 'rank' | 'group'>>> = {
  'one process': ALONE,
  'one process that computes activations again': { ...ALONE, recompute: 'full' },
  'one process with offloaded optimizer and gradients': {
    ...ALONE,
    zeroStage: 2,
    offload: { optimizer: { device: 'cpu' } },
  },
  'two ranks at stage 2': { ...ALONE, zeroStage: 2, ranks: 2 },
  'two ranks at stage 3': { ...ALONE, zeroStage: 3, ranks: 2 },
  'two ranks at stage 3 that release early': { ...ALONE, zeroStage: 3, ranks: 2, recompute: 'full', tuning: TIGHT },
  'two ranks at stage 3 with parameters on disk': {
    ...ALONE,
    zeroStage: 3,
    ranks: 2,
    tuning: { ...TIGHT, offloadParam: ON_DISK },
  },
};

async function measured(job: MemoryCase): Promise<{ readonly planned: number; readonly measured: number }> {
  const child = spawn(process.execPath, [...FLAGS, CHILD, JSON.stringify(job)]);
  const [out, errors, [status]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  assert.equal(status, 0, errors);
  return JSON.parse(out);
}

for (const [name, job] of Object.entries(CASES))
  test(`the measured peak is within 3 % of the plan: ${name}`, { skip }, async () => {
    const group = `rlt-${randomUUID()}`;
    const ranks = Array.from({ length: job.ranks }, (_, rank) => measured({ ...job, rank, group }));
    for (const { planned, measured } of await Promise.all(ranks)) {
      assert.ok(planned > 200e6, `${planned}`);
      assert.ok(Math.abs(measured / planned - 1) < 0.03, `planned ${planned}, measured ${measured}`);
    }
  });
