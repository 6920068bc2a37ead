// Pass: gradients of parameters add up where they lie. Uses of a tied weight in one program: the sum of their gradients
// becomes writes one after the other, the later ones with `accumulate`. Micro-batches of one step: every such op gets the
// input `beta`, 0 in the first micro-batch (overwrite) and 1 in the others (add).
import { ConfigError } from '../../common/index.js';
import { GraphBuilder } from '../builder.js';
import { type Graph, type Op, producers, type Tensor, type TensorId } from '../graph.js';
import { ruleOf } from '../ops/index.js';

export function accumulate(graph: Graph): Graph {
  const madeBy = producers(graph);
  const ops: (Op | null)[] = [...graph.ops];
  const tensors: Tensor[] = [...graph.tensors];
  const gradients = new Map<string, TensorId>();

  for (const [name, gradient] of graph.gradients) {
    // The operands of the sum in the order in which they are made; a single use is a sum of one.
    const terms: TensorId[] = [];
    const open = [gradient];
    for (let id = open.pop(); id !== undefined; id = open.pop()) {
      const maker = madeBy.get(id);
      const op = maker === undefined ? null : ops[maker];
      if (maker !== undefined && op?.kind === 'add') {
        open.push(...op.inputs);
        ops[maker] = null;
      } else terms.push(id);
    }
    terms.sort((a, b) => madeBy.get(a)! - madeBy.get(b)!);
    for (const [index, id] of terms.entries()) {
      const maker = madeBy.get(id);
      const op = maker === undefined ? null : ops[maker];
      if (maker === undefined || !op || !ruleOf(op.kind).accumulates?.includes(op.outputs.indexOf(id))) {
        throw new ConfigError(name, 'a gradient made by an op that can accumulate', op?.kind ?? 'none');
      }
      if (index === 0) continue;
      if (op.outputs.some((other) => other !== id && [...graph.gradients.values()].includes(other))) {
        throw new ConfigError(name, 'a tied parameter to share no op with another parameter', op.path);
      }
      ops[maker] = { ...op, attributes: { ...op.attributes, accumulate: 1 } };
      tensors[id] = { ...tensors[id]!, continues: terms[index - 1]! };
    }
    gradients.set(name, terms.at(-1)!);
  }

  const builder = new GraphBuilder({ ...graph, tensors });
  const beta = builder.input('beta', 'f32', [1]);
  const withBeta = ops.flatMap((op): Op[] => {
    if (!op) return [];
    return ruleOf(op.kind).accumulates ? [{ ...op, inputs: [...op.inputs, beta.id] }] : [op];
  });
  return { ...builder.build(gradients), ops: withBeta };
}
