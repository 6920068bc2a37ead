// raylite's figures on a GPU, one JSON object per line: single ops by the device's own clock, then whole training steps and decoding.
// Usage: ours.js SHAPES. Out of the archive of `npm run test:gpu`; bench/gpu/peer.py prints the same figures of PyTorch.
import { createDevice } from '#src/engine/index.js';
import { measureDecoding } from './decoding.js';
import { measureOps } from './ops.js';
import { readShapes } from './shapes.js';
import { measureTraining } from './training.js';

const shapes = readShapes(process.argv[2]!);
const device = createDevice({ kind: 'cuda', attention: 'measured' });
/** Devices whose attention is always by the same kernels. */
const own = createDevice({ kind: 'cuda', attention: 'own' });
const cudnn = createDevice({ kind: 'cuda', attention: 'cudnn' });
const ceilings = await measureOps(device, { own, cudnn }, shapes);
await measureDecoding(device, shapes.decoding, ceilings);
for (const shape of shapes.training) await measureTraining(device, shape, ceilings);
for (const line of [...device.choices(), ...cudnn.choices()]) console.log(line);
for (const one of [device, own, cudnn]) one.dispose();
