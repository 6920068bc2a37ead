// What the archive for a machine with a GPU holds (test/gpu/pack.ts) and runs (test/gpu/main.ts).

const OPS = ['attention', 'dropout', 'linear', 'loss', 'norms', 'update'].map((name) => `native/ops-${name}`);

/** Test files under test/, without `.test.js`. */
export const TESTS: readonly string[] = [
  'native/cuda',
  'native/cuda-host',
  ...OPS,
  'native/attention-choice',
  'native/engine-storage',
  'native/engine-storage-products',
  'engine/nf4',
  'engine/optimizers',
  'engine/rounding-by-chance',
  'engine/cuda',
  'engine/cuda-offload',
  'infer/cuda-generation',
  'native/shared-memory',
  'native/vocabulary-ops',
];

/** Those whose kernels compute-sanitizer watches: many shapes, little work. */
export const SANITIZED: readonly string[] = ['native/cuda', ...OPS, 'native/engine-storage'];

/** Folders of reference vectors: ops and optimisers, a model of each kind of block. */
export const GOLDEN_FOLDERS = ['ops', 'optim', 'gpt2', 'gpt_neox', 'llama', 'mistral', 'qwen2', 'llama3_rope'] as const;
