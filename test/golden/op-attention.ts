// Cases of attention: [batch, heads, tokens, head size] of the reference as rows of packed segments, and back.
import { CACHE_BLOCK_TOKENS } from '#src/engine/index.js';
import { ropeOf, ropeTables } from '#src/models/index.js';
import { paged } from '../support/paged-cache.js';
import { Checks } from './checks.js';
import { compareSized, type OpRun } from './ops.js';
import { OpBench } from './run-ops.js';

type Shape = readonly [batch: number, heads: number, tokens: number, size: number];

/** [B, H, T, C] → [B*T, H*C]. */
function toRows(values: Float32Array, [batch, heads, tokens, size]: Shape): Float32Array {
  const rows = new Float32Array(values.length);
  for (let b = 0; b < batch; b++)
    for (let h = 0; h < heads; h++)
      for (let t = 0; t < tokens; t++) {
        const from = ((b * heads + h) * tokens + t) * size;
        rows.set(values.subarray(from, from + size), ((b * tokens + t) * heads + h) * size);
      }
  return rows;
}

/** The segment of each row: runs of equal documents, rows of padding alone. */
function segments(batch: number, tokens: number, keyMask: Int32Array | null, documents: Int32Array | null) {
  const rows = batch * tokens;
  const starts = new Int32Array(rows);
  const ends = new Int32Array(rows);
  const group = (row: number) => {
    if (keyMask && !keyMask[row]) return `padding ${row}`;
    return `${Math.floor(row / tokens)}/${documents ? documents[row] : 0}`;
  };
  for (let start = 0; start < rows; ) {
    let end = start + 1;
    while (end < rows && group(end) === group(start)) end++;
    starts.fill(start, start, end);
    ends.fill(end, start, end);
    start = end;
  }
  return { starts, ends };
}

export async function runAttention({ golden, tensors, device }: OpRun): Promise<Checks> {
  const checks = new Checks();
  const shape = tensors.shape('q') as Shape;
  const kvShape = tensors.shape('k') as Shape;
  const [batch, heads, tokens, size] = shape;
  const rows = batch * tokens;
  const optional = async (name: string) => (tensors.has(name) ? tensors.integers(name) : null);
  const queryMask = await tensors.integers('query_mask');
  const { starts, ends } = segments(batch, tokens, await optional('key_mask'), await optional('document_ids'));

  // Masked queries give zeros and pass no gradient.
  const masked = (values: Float32Array) =>
    values.map((value, i) => (queryMask[Math.floor(i / (heads * size))] ? value : 0));
  const bench = new OpBench();
  const give = async (name: string, dims: Shape) =>
    bench.give(name, [rows, dims[1] * size], toRows(await tensors.floats(name), dims));
  const q = await give('q', shape);
  const k = await give('k', kvShape);
  const v = await give('v', kvShape);
  const upstream = masked(toRows(await tensors.floats('upstream'), shape));
  const around = [bench.give('starts', [rows], starts), bench.give('ends', [rows], ends)];
  const attributes = {
    heads,
    kvHeads: kvShape[1],
    headDim: size,
    scale: 1 / Math.sqrt(size),
    causal: golden.causal ? 1 : 0,
    window: (golden.window as number | undefined) ?? 0,
    ...{ qOffset: 0, qHeadStride: size, kOffset: 0, kHeadStride: size, vOffset: 0, vHeadStride: size },
  };
  const [o, lse] = bench.graph.op('attention', 'op', [q, k, v, ...around], attributes);
  const dout = bench.give('upstream', [rows, heads * size], upstream);
  const gradients = bench.graph.op('attention_backward', 'op', [dout, o!, lse!, q, k, v, ...around], attributes);
  bench.graph.output('output', o!);
  for (const [i, name] of ['grad/q', 'grad/k', 'grad/v'].entries()) bench.graph.output(name, gradients[i]!);
  for (const [name, found] of await bench.run(device)) {
    const expected = toRows(await tensors.floats(name), name === 'grad/k' || name === 'grad/v' ? kvShape : shape);
    compareSized(checks, name, name === 'output' ? masked(found) : found, expected);
  }
  return checks;
}

/** One new query per sequence against a cache of `lengths` tokens. */
export async function runAttentionDecode({ tensors, device }: OpRun): Promise<Checks> {
  const checks = new Checks();
  const [slots, heads, , size] = tensors.shape('q') as Shape;
  const kvShape = tensors.shape('k') as Shape;
  const [, kvHeads, positions] = kvShape;
  const lengths = await tensors.integers('lengths');
  const bench = new OpBench();
  const width = kvHeads * size;
  const slotBlocks = Math.ceil(positions / CACHE_BLOCK_TOKENS);
  const blockCount = slots * slotBlocks;
  const table = Array.from({ length: blockCount }, (_, i) => blockCount - 1 - i);
  const cache = async (name: 'k' | 'v') => {
    const rows = toRows(await tensors.floats(name), kvShape);
    const dims = name === 'k' ? [width, CACHE_BLOCK_TOKENS] : [CACHE_BLOCK_TOKENS, width];
    return bench.give(name, [blockCount, ...dims], paged(rows, name, { slots, positions, width, table, blockCount }));
  };
  const inputs = [
    bench.give('q', [slots, heads * size], await tensors.floats('q')),
    await cache('k'),
    await cache('v'),
    bench.give(
      'slots',
      [slots],
      Int32Array.from(lengths, (_, i) => i),
    ),
    bench.give(
      'positions',
      [slots],
      lengths.map((length) => length - 1),
    ),
    bench.give('blocks', [slots, slotBlocks], Int32Array.from(table)),
  ];
  const layout = { qOffset: 0, qHeadStride: size };
  const attributes = { heads, kvHeads, headDim: size, scale: 1 / Math.sqrt(size), window: 0, ...layout };
  bench.graph.output('output', bench.graph.op('attention_cached', 'op', inputs, attributes)[0]!);
  compareSized(checks, 'output', (await bench.run(device)).get('output')!, await tensors.floats('output'));
  return checks;
}

/** Rotary embedding of heads side by side in a row, and the turn back of the gradient. */
export async function runRotary({ golden, tensors, device }: OpRun): Promise<Checks> {
  const checks = new Checks();
  const shape = tensors.shape('x') as Shape;
  const [batch, heads, tokens, size] = shape;
  const rows = batch * tokens;
  const positions = await tensors.integers('positions');
  const rotaryDim = golden.rotary_dims as number;
  const count = Math.max(...positions) + 1;
  const fields = { max_position_embeddings: count, rope_theta: golden.base as number };
  const interleaved = golden.style === 'gptj' ? 1 : 0;
  const { cos, sin } = ropeTables(ropeOf(fields, rotaryDim, golden.name), count);
  const bench = new OpBench();
  const give = async (name: string) =>
    bench.give(name, [rows, heads * size], toRows(await tensors.floats(name), shape));
  const around = [
    bench.give('cos', [count, rotaryDim / 2], cos),
    bench.give('sin', [count, rotaryDim / 2], sin),
    bench.give('positions', [rows], positions),
  ];
  for (const [from, to, inverse] of [
    ['x', 'output', 0],
    ['upstream', 'grad/x', 1],
  ] as const) {
    const attributes = { heads, headDim: size, rotaryDim, offset: 0, headStride: size, inverse, interleaved };
    bench.graph.output(to, bench.graph.op('rotary', 'op', [await give(from), ...around], attributes)[0]!);
  }
  for (const [name, found] of await bench.run(device)) {
    compareSized(checks, name, found, toRows(await tensors.floats(name), shape));
  }
  return checks;
}
