// A model of one's own: a perceptron over rows of numbers, with a residual block of its own making.
import type { FeatureModel, Tensor } from 'raylite/engine';
import { Block, stack } from 'raylite/models';

/** x + down(relu(up(norm(x)))). */
function residual(part: Block, path: string, x: Tensor): Tensor {
  const width = x.dims[1]!;
  const inner = part.linear(`${path}.up`, part.layerNorm(`${path}.norm`, x, 1e-5), 2 * width, true);
  return part.graph.add(path, x, part.linear(`${path}.down`, part.graph.activation(path, inner, 'relu'), width, true));
}

export function mlp(featureCount: number, classes: number, width = 32, layers = 2): FeatureModel {
  return {
    featureCount,
    labelCount: classes,
    build(graph, features) {
      const start = new Block(graph, 'input', 0.1).linear('input', features, width, true);
      const blocks = stack(start, layers, (x, i) => residual(new Block(graph, `block.${i}`, 0.1), `block.${i}`, x));
      const head = new Block(graph, 'head', 0.1);
      const weight = head.matrix('head.weight', [classes, width]);
      return { hidden: blocks[layers]!, head: { weight, bias: head.bias('head.bias', classes), isTransposed: false } };
    },
  };
}
