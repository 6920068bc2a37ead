// `npm run golden -- PATH…`: holds the engine to reference vectors, one line per case. PATH is a case folder or a folder of
// them; `--tokenizer DIR` takes a tokenizer's golden.json; `--isa` takes another instruction set than the CPU's best, `--device cuda` a GPU.
// Closes with "N passed, N failed, N skipped".
// Exit code 0: all that is supported passed; 1: a case failed; 2: nothing to check under a path.

import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { SafetensorsFile, supportedFamilies } from '#src/models/index.js';
import { type Isa, type NativeDevice, native } from '#src/native/index.js';
import { openCuda } from '../support/devices.js';
import type { Checks } from './checks.js';
import { CaseTensors, findFolders, type GoldenCase, type GoldenFolder } from './folder.js';
import { runForward } from './forward.js';
import { runGenerate } from './generate.js';
import { opRunner } from './ops.js';
import { preferenceRunner } from './preference.js';
import { compareMerged, openSubject } from './subject.js';
import { checkTokenizer } from './tokenizer.js';
import { runTrain } from './train.js';
import { compareWeights } from './weights.js';

const USAGE = 'usage: npm run golden -- [--device cpu|cuda] [--isa scalar|avx2|avx512] [--tokenizer DIR]… PATH…';
const FORWARD_KINDS = new Set(['forward', 'forward_backward', 'packed_forward_backward']);

class Tally {
  passed = 0;
  failed = 0;
  skipped = 0;

  pass(folder: string, name: string, detail: string): void {
    this.passed++;
    console.log(`passed   ${folder}  ${name}  ${detail}`);
  }
  fail(folder: string, name: string, detail: string): void {
    this.failed++;
    console.log(`FAILED   ${folder}  ${name}  ${detail}`);
  }
  skip(folder: string, name: string, detail: string): void {
    this.skipped++;
    console.log(`skipped  ${folder}  ${name}  ${detail}`);
  }
  checks(folder: string, name: string, checks: Checks): void {
    const { what, error, limit } = checks.worst;
    const detail = `worst ${error.toExponential(2)} (${what}), limit ${limit.toExponential(0)}`;
    if (checks.isPassed) this.pass(folder, name, detail);
    else this.fail(folder, name, detail);
  }
}

/** Why a case is not run, or null. */
function unsupported(folder: GoldenFolder, golden: GoldenCase): string | null {
  const isModelCase = FORWARD_KINDS.has(golden.kind) || golden.kind === 'train_curve' || golden.kind === 'generate';
  if (preferenceRunner(folder, golden)) return null;
  if (folder.model === null && opRunner(golden)) return null;
  if (folder.base !== null && golden.kind === 'merged_weights') return null;
  if (!isModelCase) return `kind ${golden.kind}`;
  if (folder.base === null && !(supportedFamilies() as readonly (string | null)[]).includes(folder.modelType)) {
    return `kind ${golden.kind} of model ${folder.modelType ?? 'in another folder'}`;
  }
  const precision = (golden.precision as string | undefined) ?? 'float32';
  const isSupported = precision === 'float32' || (golden.kind === 'train_curve' && precision.startsWith('bfloat16'));
  return isSupported ? null : `kind ${golden.kind} in ${precision}`;
}

async function runFolder(folder: GoldenFolder, device: NativeDevice, tally: Tally): Promise<void> {
  if (folder.sameWeightsAs !== null) {
    tally.checks(folder.name, `weights of ${folder.sameWeightsAs}`, await compareWeights(folder, folder.sameWeightsAs));
  }
  const runnable = folder.cases.filter((golden) => unsupported(folder, golden) === null);
  for (const golden of folder.cases) {
    const reason = unsupported(folder, golden);
    if (reason !== null) tally.skip(folder.name, golden.name, reason);
  }
  if (runnable.length === 0) return;
  await using file = await SafetensorsFile.open(join(folder.path, 'cases.safetensors'));
  await using subject = await openSubject(folder);
  for (const golden of runnable) {
    const caseTensors = (name: string) => new CaseTensors(file, name);
    const tensors = caseTensors(golden.name);
    try {
      const preference = preferenceRunner(folder, golden);
      if (preference) {
        tally.checks(folder.name, golden.name, await preference({ folder, golden, caseTensors, device }));
        continue;
      }
      if (!subject) {
        tally.checks(folder.name, golden.name, await opRunner(golden)!({ golden, tensors, device }));
        continue;
      }
      const run = { folder, golden, tensors, subject, device };
      if (golden.kind === 'merged_weights')
        tally.checks(folder.name, golden.name, await compareMerged(folder, tensors, device));
      else if (golden.kind === 'generate') tally.checks(folder.name, golden.name, await runGenerate(run));
      else if (golden.kind === 'train_curve') tally.checks(folder.name, golden.name, await runTrain(run, caseTensors));
      else tally.checks(folder.name, golden.name, await runForward(run));
    } catch (error) {
      tally.fail(folder.name, golden.name, error instanceof Error ? (error.stack ?? error.message) : String(error));
    }
  }
}

const isIsa = (name: string): name is Isa => ['scalar', 'avx2', 'avx512'].includes(name);

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      tokenizer: { type: 'string', multiple: true, default: [] },
      isa: { type: 'string' },
      device: { type: 'string', default: 'cpu' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  const isa = values.isa ?? null;
  if (isa !== null && !isIsa(isa)) {
    console.error(`golden: --isa: expected scalar, avx2 or avx512, got ${JSON.stringify(isa)}\n${USAGE}`);
    return 2;
  }
  if (values.device !== 'cpu' && values.device !== 'cuda') {
    console.error(`golden: --device: expected cpu or cuda, got ${JSON.stringify(values.device)}\n${USAGE}`);
    return 2;
  }
  if (positionals.length + values.tokenizer.length === 0) {
    console.error(`golden: no path given\n${USAGE}`);
    return 2;
  }
  const folders: GoldenFolder[] = [];
  for (const path of positionals) {
    const found = existsSync(path) ? findFolders(path) : [];
    if (found.length === 0) {
      console.error(
        `golden: ${path} ${existsSync(path) ? 'holds no cases.json, and no folder in it does' : 'does not exist'}`,
      );
      return 2;
    }
    folders.push(...found);
  }
  const missing = values.tokenizer.find((dir) => !existsSync(join(dir, 'golden.json')));
  if (missing !== undefined) {
    console.error(`golden: ${missing} holds no golden.json`);
    return 2;
  }

  const tally = new Tally();
  for (const dir of values.tokenizer) {
    for (const { group, passed, failures } of await checkTokenizer(dir)) {
      const total = passed + failures.length;
      if (total === 0) continue;
      if (failures.length === 0) tally.pass(basename(dir), group, `${total} of ${total} equal`);
      else tally.fail(basename(dir), group, `${passed} of ${total} equal; first: case ${failures[0]}`);
    }
  }
  if (folders.length > 0) {
    const device =
      values.device === 'cuda'
        ? openCuda()
        : native().createDevice({ threads: Math.min(2, availableParallelism()), isa, pin: false });
    try {
      for (const folder of folders) await runFolder(folder, device, tally);
    } finally {
      device.dispose();
    }
  }
  console.log(`\n${tally.passed} passed, ${tally.failed} failed, ${tally.skipped} skipped`);
  return tally.failed === 0 ? 0 : 1;
}

process.exitCode = await main();
