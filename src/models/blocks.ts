// The parts that families share: a linear layer and norms under their checkpoint names, and how they are initialised.

import { ConfigError } from '../common/index.js';
import type { Activation, GraphBuilder, Initialiser, Tensor } from '../engine/index.js';

const ONES: Initialiser = { kind: 'ones' };
const ZEROS: Initialiser = { kind: 'zeros' };

/** The parameters of one bucket of the model under construction. */
export class Block {
  readonly graph: GraphBuilder;
  readonly bucket: string;
  readonly #std: number;

  constructor(graph: GraphBuilder, bucket: string, std: number) {
    this.graph = graph;
    this.bucket = bucket;
    this.#std = std;
  }

  /** A matrix drawn from a normal distribution. */
  matrix(name: string, dims: readonly [number, number], std = this.#std): Tensor {
    return this.graph.parameter(name, dims, { bucket: this.bucket, init: { kind: 'normal', std } });
  }

  gain(name: string, width: number): Tensor {
    return this.graph.parameter(name, [width], { bucket: this.bucket, init: ONES });
  }

  bias(name: string, width: number): Tensor {
    return this.graph.parameter(name, [width], { bucket: this.bucket, init: ZEROS });
  }

  /** `path.weight` [outputs, inputs] and, when asked for, `path.bias`. */
  linear(path: string, x: Tensor, outputs: number, hasBias: boolean): Tensor {
    const weight = this.matrix(`${path}.weight`, [outputs, x.dims[1]!]);
    return this.graph.linear(path, x, weight, hasBias ? this.bias(`${path}.bias`, outputs) : null);
  }

  /** GPT-2's linear layer: `path.weight` [inputs, outputs], always with `path.bias`. */
  conv1d(path: string, x: Tensor, outputs: number, std?: number): Tensor {
    const weight = this.matrix(`${path}.weight`, [x.dims[1]!, outputs], std);
    return this.graph.linear(path, x, weight, this.bias(`${path}.bias`, outputs), true);
  }

  layerNorm(path: string, x: Tensor, eps: number): Tensor {
    const width = x.dims[1]!;
    return this.graph.layerNorm(path, x, this.gain(`${path}.weight`, width), this.bias(`${path}.bias`, width), eps);
  }

  /** Over whole rows, or over each `width` columns of them (the heads of q and k). */
  rmsNorm(path: string, x: Tensor, eps: number, width = x.dims[1]!): Tensor {
    return this.graph.rmsNorm(path, x, this.gain(`${path}.weight`, width), eps);
  }
}

/** `layers` blocks one after the other; returns what goes into the first and what comes out of each. */
export function stack(x: Tensor, layers: number, block: (x: Tensor, index: number) => Tensor): Tensor[] {
  const states = [x];
  for (let index = 0; index < layers; index++) states.push(block(states[index]!, index));
  return states;
}

const ACTIVATION_NAMES: Readonly<Record<string, Activation>> = {
  gelu: 'gelu_erf',
  gelu_new: 'gelu_tanh',
  gelu_pytorch_tanh: 'gelu_tanh',
  relu: 'relu',
  silu: 'silu',
  swish: 'silu',
};

/** The engine's kind for a name of Transformers. */
export function activationNamed(key: string, name: string): Activation {
  const kind = ACTIVATION_NAMES[name];
  if (!kind) throw new ConfigError(key, `one of ${Object.keys(ACTIVATION_NAMES).join(', ')}`, name);
  return kind;
}
