// Pass: low-rank adapters (LoRA, arXiv:2106.09685 §4.1). y = x w + b  →  y + factor * (x A^T) B^T for every linear layer that is
// chosen. The parameters there were are frozen, so that autodiff makes no gradient of them and the layout no room for one, but for
// those of modules that are trained whole beside the adapters (a new head).
import { ConfigError } from '../../common/index.js';
import { GraphBuilder, RANDOM } from '../builder.js';
import type { Graph, Op, Parameter, Tensor, TensorId } from '../graph.js';
import { HEAD_PATHS } from '../objective.js';
import { ACTIVATIONS, ruleOf } from '../ops/index.js';

/** What an adapter is like, and where it goes. */
export interface LoraSettings {
  readonly rank: number;
  /** What the adapter's output is multiplied by: alpha / rank, or alpha / sqrt(rank). */
  readonly factor: number;
  /** Share of the adapter's input that is dropped in training. */
  readonly dropout: number;
  /** Whether the layer at this model path gets an adapter. */
  readonly isTarget: (path: string) => boolean;
  /** Whether the module at this model path, or one that it is part of, is trained whole. */
  readonly isTrained: (path: string) => boolean;
  /** Checkpoint name of A [rank, inputs] or B [outputs, rank] of the layer at a path. */
  readonly nameOf: (path: string, half: 'A' | 'B') => string;
}

/** A linear layer whose weight is a parameter. */
export interface LinearLayer {
  readonly path: string;
  readonly weight: Parameter;
  readonly isTransposed: boolean;
}

/** Adds an adapter to the linear layers that are its targets, and freezes all else (arXiv:2106.09685). */
export function addLora(graph: Graph, settings: LoraSettings, isTraining: boolean): Graph {
  const { rank, factor, isTarget, isTrained, nameOf } = settings;
  const dropout = isTraining ? settings.dropout : 0;
  let stream = streamCount(graph);
  const frozen = [...graph.parameters.values()].map((parameter) => ({
    ...parameter,
    isFrozen: !isTrained(parameter.name.replace(/\.[^.]*$/, '')),
  }));
  const byName = new Map(frozen.map((parameter) => [parameter.name, parameter]));
  const builder = new GraphBuilder({ ...graph, ops: [], parameters: byName });
  const replaced = new Map<TensorId, Tensor>(); // y → y with its adapter
  let count = 0;
  for (const op of graph.ops) {
    builder.keep({ ...op, inputs: op.inputs.map((id) => replaced.get(id)?.id ?? id) });
    const layer = linearLayer(graph, op);
    if (!layer || !isTarget(op.path)) continue;
    count++;
    const x = replaced.get(op.inputs[0]!) ?? builder.tensor(op.inputs[0]!);
    const y = builder.tensor(op.outputs[0]!);
    const half = (name: 'A' | 'B', dims: readonly [number, number], std: number) => {
      const init = std === 0 ? ({ kind: 'zeros' } as const) : ({ kind: 'normal', std } as const);
      return builder.parameter(nameOf(op.path, name), dims, { bucket: layer.weight.bucket, init });
    };
    // The spread of peft's uniform start; B starts at zero, so that the adapter starts without effect.
    const a = half('A', [rank, x.dims[1]!], 1 / Math.sqrt(3 * x.dims[1]!));
    const b = half('B', [y.dims[1]!, rank], 0);
    const kept =
      dropout === 0
        ? x
        : builder.op('dropout', op.path, [x, builder.input(RANDOM, 'i32', [4])], { p: dropout, stream: stream++ })[0]!;
    const low = builder.op('scale', op.path, [builder.linear(op.path, kept, a)], { factor })[0]!;
    replaced.set(y.id, builder.add(op.path, y, builder.linear(op.path, low, b)));
  }
  if (count === 0) {
    const ends = [...new Set(linearLayers(graph).map(({ path }) => path.split('.').at(-1)!))];
    const hint = `Those of the model end in ${ends.join(', ')}`;
    throw new ConfigError('adapter', 'targets that are linear layers of the model', 'none', hint);
  }
  for (const [name, id] of graph.outputs) builder.output(name, replaced.get(id) ?? builder.tensor(id));
  return builder.build();
}

/** The linear layers of a forward graph. Output matrices are none. */
export function linearLayers(graph: Graph): readonly LinearLayer[] {
  return graph.ops.flatMap((op) => linearLayer(graph, op) ?? []);
}

/** The layer that an op is, if it is one. */
export function linearLayer(graph: Graph, op: Op): LinearLayer | null {
  if (op.kind !== 'linear' || op.attributes.activation !== ACTIVATIONS.none || HEAD_PATHS.has(op.path)) return null;
  const weight = [...graph.parameters.values()].find((parameter) => parameter.tensor === op.inputs[1]);
  return weight ? { path: op.path, weight, isTransposed: op.attributes.transposed === 1 } : null;
}

/** Streams of random numbers that the ops of a graph draw from: 0 to one less. */
function streamCount(graph: Graph): number {
  // Attention is a random op only where it drops keys.
  const drawn = graph.ops.map(({ kind, attributes }) => (ruleOf(kind).isRandom ? (attributes.stream ?? -1) : -1));
  return 1 + Math.max(-1, ...drawn);
}
