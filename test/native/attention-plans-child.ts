// Has cuDNN plan attention of the shapes that come as JSON on the standard input, for the device in it; prints what it says of each. A process of its
// own: its driver is a stand-in.
import { readFileSync } from 'node:fs';
import { type CudaAttentionShape, findCuda, native } from '#src/native/index.js';

const { device, shapes }: { device: object; shapes: CudaAttentionShape[] } = JSON.parse(readFileSync(0, 'utf8'));
const { library, cublasLt, nccl, cudnn, cudart, nvrtc, nvrtcBuiltins } = findCuda(native());
const opening = {
  library: library!,
  index: 0,
  attention: 'measured',
  cublasLt,
  nccl,
  cudnn,
  cudart,
  nvrtc,
  nvrtcBuiltins,
} as const;
const planned = shapes.map((shape) => {
  try {
    return { bytes: native().planCudaAttention(opening, JSON.stringify(device), shape) };
  } catch (error) {
    return { refused: (error as Error).message };
  }
});
console.log(JSON.stringify(planned));
