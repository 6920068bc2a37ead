// Run: npm run build && npx tsx examples/shared-tensors/main.ts [--gpu]   (two actors on one GPU: no copy; on CPUs: a copy)
import { actor, init } from 'raylite';
import { Sink, Source } from './stages.js';

const isGpu = process.argv.includes('--gpu');
const options = isGpu ? ({ kind: 'cuda' } as const) : { threads: 1 };
await using _ = await init({ address: 'local', numCpus: 2, ...(isGpu && { numGpus: 1 }) });
const resources = isGpu ? { cpus: 0, gpus: 0.5 } : { cpus: 1 };
const source = await actor(Source, resources).create(options);
const sink = await actor(Sink, resources).create(options);

// The ref goes from one to the other; neither it nor the numbers come by here.
console.log('sum', await sink.sum(source.make(1000)));
