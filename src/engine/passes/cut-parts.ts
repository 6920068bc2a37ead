// Pass: cuts a forward at borders between blocks into parts that run one after the other, each on a stage of a pipeline. A part reads
// the batch, and from the part before it the tensor of one border; it makes the tensor of the next, or the losses. Ops keep their
// attributes, so that random ones draw from the streams that they had. Before all fusions: none reaches over a border.
import { ConfigError } from '../../common/index.js';
import { type Graph, type Parameter, producers, type TensorId } from '../graph.js';

/** Names of what parts hand each other, as inputs and outputs of their graphs. */
export const RECEIVED = 'received';
export const SENT = 'sent';

/** `starts` are the first blocks of the parts, 0 before all others. */
export function cutParts(forward: Graph, starts: readonly number[]): readonly Graph[] {
  const { borders } = forward;
  const parts = starts.map((start, index) => {
    const end = starts[index + 1] ?? null;
    return cutPart(forward, index === 0 ? null : borders[start]!, end === null ? null : borders[end]!, [start, end]);
  });
  expectApart(forward, parts);
  return parts;
}

/** Parameters that several parts have (a tied output matrix), by name; each is trained in all of them alike. */
export function sharedParameters(parts: readonly Graph[]): ReadonlyMap<string, Parameter> {
  const seen = new Set<string>();
  const shared = new Map<string, Parameter>();
  for (const { parameters } of parts)
    for (const [name, parameter] of parameters) {
      if (seen.has(name)) shared.set(name, parameter);
      seen.add(name);
    }
  return shared;
}

function cutPart(
  forward: Graph,
  received: TensorId | null,
  sent: TensorId | null,
  [start, end]: readonly [number, number | null],
): Graph {
  const outputs = sent === null ? forward.outputs : new Map([[SENT, sent]]);
  const wanted = new Set<TensorId>(outputs.values());
  const ops = forward.ops
    .toReversed()
    .filter(({ inputs, outputs: made }) => {
      if (!made.some((id) => wanted.has(id) && id !== received)) return false;
      for (const id of inputs) wanted.add(id);
      return true;
    })
    .reverse();
  const isRead = (id: TensorId) => wanted.has(id);
  const tensors = [...forward.tensors];
  if (received !== null) tensors[received] = { ...tensors[received]!, role: 'input' };
  return {
    tensors,
    ops,
    inputs: new Map([
      ...[...forward.inputs].filter(([, id]) => isRead(id)),
      ...(received === null ? [] : [[RECEIVED, received] as const]),
    ]),
    outputs,
    parameters: new Map([...forward.parameters].filter(([, { tensor }]) => isRead(tensor))),
    constants: new Map([...forward.constants].filter(([id]) => isRead(id))),
    borders: forward.borders.slice(start, end === null ? undefined : end + 1),
    gradients: new Map(),
  };
}

/** No part may need what another one computes but through the border; what follows from the batch alone is made again. */
function expectApart(forward: Graph, parts: readonly Graph[]): void {
  const madeBy = producers(forward);
  const learns = new Set<TensorId>([...forward.parameters.values()].map(({ tensor }) => tensor));
  for (const { inputs, outputs } of forward.ops)
    if (inputs.some((id) => learns.has(id))) for (const id of outputs) learns.add(id);
  const owner = new Map<number, number>();
  for (const [part, { ops }] of parts.entries())
    for (const op of ops) {
      const index = madeBy.get(op.outputs[0]!)!;
      const other = owner.get(index);
      owner.set(index, part);
      if (other === undefined || !op.outputs.some((id) => learns.has(id))) continue;
      throw new ConfigError(
        'pipeline',
        'a model whose blocks pass on one tensor',
        op.path,
        `Parts ${other} and ${part} both need it`,
      );
    }
}
