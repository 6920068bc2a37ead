// Pass: s = a + b; y = norm(s)  →  s, y = add_norm(a, b). The equality is by definition of the fused op; the sum stays a
// tensor of its own because the next residual reads it. Runs before autodiff, whose rule then adds both gradients of s in one op.
import { type Graph, type Op, producers } from '../graph.js';

const FUSED: Readonly<Record<string, string>> = { layer_norm: 'add_layer_norm', rms_norm: 'add_rms_norm' };

export function fuseResidualNorm(graph: Graph): Graph {
  const madeBy = producers(graph);
  const normOfSum = new Map<number, Op>(); // sum → the first norm that reads it
  for (const op of graph.ops) {
    const [x, ...rest] = op.inputs;
    if (x === undefined || !(op.kind in FUSED) || normOfSum.has(x)) continue;
    const maker = madeBy.get(x);
    if (maker === undefined || graph.ops[maker]!.kind !== 'add' || rest.some((id) => madeBy.has(id))) continue;
    normOfSum.set(x, op);
  }
  const fused = new Set(normOfSum.values());
  const ops = graph.ops.flatMap((op): Op[] => {
    if (fused.has(op)) return [];
    const sum = op.outputs[0];
    const norm = op.kind === 'add' && sum !== undefined ? normOfSum.get(sum) : undefined;
    if (!norm || sum === undefined) return [op];
    const inputs = [...op.inputs, ...norm.inputs.slice(1)];
    return [{ ...norm, kind: FUSED[norm.kind]!, inputs, outputs: [sum, ...norm.outputs] }];
  });
  return { ...graph, ops };
}
