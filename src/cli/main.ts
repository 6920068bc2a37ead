#!/usr/bin/env node
// `raylite`: one verb a file. A verb reads its flags, makes one call of the library or the head's API, shows the result.
import { Command } from 'commander';
import { RAYLITE_VERSION } from '../common/index.js';
import { register as registerDoctor } from './doctor.js';
import { register as registerDrain } from './drain.js';
import { register as registerEstimate } from './estimate.js';
import { register as registerExplain } from './explain.js';
import { register as registerGenerate } from './generate.js';
import { register as registerJob } from './job.js';
import { register as registerList } from './list.js';
import { register as registerLogs } from './logs.js';
import { register as registerMemory } from './memory.js';
import { register as registerMerge } from './merge.js';
import { reportError } from './output.js';
import { register as registerQuickstart } from './quickstart.js';
import { register as registerStart } from './start.js';
import { register as registerStatus } from './status.js';
import { register as registerStop } from './stop.js';
import { register as registerSummary } from './summary.js';
import { register as registerTimeline } from './timeline.js';
import { register as registerTop } from './top.js';
import { register as registerTrain } from './train.js';

const program = new Command('raylite')
  .description('An actor cluster for Node.js that fine-tunes language models.')
  .version(RAYLITE_VERSION, '-v, --version')
  .showHelpAfterError('Add --help to see what is possible.')
  .exitOverride();

for (const register of [
  registerStart,
  registerStatus,
  registerStop,
  registerDrain,
  registerJob,
  registerList,
  registerLogs,
  registerSummary,
  registerTop,
  registerTimeline,
  registerMemory,
  registerExplain,
  registerDoctor,
  registerTrain,
  registerEstimate,
  registerQuickstart,
  registerGenerate,
  registerMerge,
]) {
  register(program);
}

// Whoever reads may have seen enough ("raylite logs … | head"): that is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit();
});

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = reportError(error);
}
