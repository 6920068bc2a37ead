// The worker process: `node dist/worker/main.js --boot FILE --id ID`, started by a node agent.
import { readFileSync } from 'node:fs';
import type { WorkerId } from '../common/index.js';
import { startWorker, type WorkerBoot } from './worker.js';

const argument = (name: string): string => process.argv[process.argv.indexOf(name) + 1] ?? '';
await startWorker(JSON.parse(readFileSync(argument('--boot'), 'utf8')) as WorkerBoot, argument('--id') as WorkerId);
