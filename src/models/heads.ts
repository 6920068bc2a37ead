// What is put on the body of a causal model: the output matrix over the vocabulary, a score of whole sequences
// (*ForSequenceClassification), and beside either a value of every token (TRL's AutoModelForCausalLMWithValueHead).
import { ConfigError } from '../common/index.js';
import type { Attend, GraphBuilder, ModelOutputs, Objective, Tensor, TokenInputs } from '../engine/index.js';
import { Block } from './blocks.js';
import type { Model } from './model.js';

/** A causal model up to what its heads read. */
export interface Body {
  /** [N, D] behind the final norm. */
  readonly hidden: Tensor;
  readonly hiddenStates: readonly Tensor[];
  /** [V, D]: the output matrix of a tied model. */
  readonly tokenTable: Tensor;
}

export interface CausalFamily extends Omit<Model, 'build' | 'labelCount' | 'objective' | 'labelAt' | 'architecture'> {
  /** What Transformers calls the family in names of classes: `GPT2`. */
  readonly className: string;
  /** The class with an output matrix: `GPT2LMHeadModel`. */
  readonly languageClass: string;
  readonly initializerStd: number;
  body(graph: GraphBuilder, tokens: TokenInputs, attend: Attend): Body;
}

/** The model that `architectures` of the configuration asks for: a language model unless it says otherwise. */
export function causalModel(family: CausalFamily, place: string): Model {
  const { className, languageClass, initializerStd, body, ...facts } = family;
  const { config, isTied, outputName } = facts;
  const asked = architectureOf(config) ?? languageClass;
  if (asked === `${className}ForSequenceClassification`) {
    const task = sequenceTask(config, place);
    return {
      ...facts,
      ...task,
      isTied: false,
      outputName: 'score.weight',
      architecture: asked,
      labelAt: 'last',
      build(graph, tokens, attend): ModelOutputs {
        const { hidden, hiddenStates } = body(graph, tokens, attend);
        const part = new Block(graph, 'head', initializerStd);
        const weight = part.matrix('score.weight', [task.labelCount, hidden.dims[1]!]);
        return { hidden, hiddenStates, head: { weight, isTransposed: false } };
      },
    };
  }
  if (/For(Sequence|Token)Classification$|ForQuestionAnswering$|ForMultipleChoice$/.test(asked)) {
    const known = `${languageClass} or ${className}ForSequenceClassification`;
    throw new ConfigError(`${place}.architectures`, known, asked);
  }
  return {
    ...facts,
    architecture: languageClass,
    build(graph, tokens, attend): ModelOutputs {
      const { hidden, hiddenStates, tokenTable } = body(graph, tokens, attend);
      const part = new Block(graph, 'head', initializerStd);
      const weight = isTied ? tokenTable : part.matrix(outputName, [facts.vocabularySize, hidden.dims[1]!]);
      return { hidden, hiddenStates, head: { weight, isTransposed: false } };
    },
  };
}

/**
 * The model with a value of every token beside its own outputs: `v_head.summary`, a linear layer to one number.
 * Forward programs give `values`; training programs take `valueGradients`.
 */
export function withValueHead(base: Model): Model {
  return {
    ...base,
    build(graph, tokens, attend): ModelOutputs {
      const outputs = base.build(graph, tokens, attend);
      const width = outputs.hidden.dims[1]!;
      const part = new Block(graph, 'head', 1 / Math.sqrt(3 * width)); // the spread of a torch.nn.Linear's start
      const weight = part.matrix('v_head.summary.weight', [1, width]);
      return { ...outputs, values: { weight, bias: part.bias('v_head.summary.bias', 1), isTransposed: false } };
    },
  };
}

/** The class that a configuration names, or null. */
export function architectureOf(config: Readonly<Record<string, unknown>>): string | null {
  const named = Array.isArray(config.architectures) ? config.architectures[0] : null;
  return typeof named === 'string' ? named : null;
}

export interface SequenceTask {
  readonly labelCount: number;
  readonly objective: Objective;
  /** Names of the classes by number, or null. */
  readonly labelNames: readonly string[] | null;
}

/** config.json of `model` as a classifier with these labels; the body stays, the head is of `*ForSequenceClassification`. */
export function classifierConfig(
  model: Pick<Model, 'architecture' | 'config'>,
  names: readonly string[],
  problemType: string,
): Readonly<Record<string, unknown>> {
  const { num_labels: _replaced, ...config } = model.config;
  const className = model.architecture.replace(/(LMHeadModel|For[A-Z]\w+)$/, '');
  return {
    ...config,
    architectures: [`${className}ForSequenceClassification`],
    id2label: Object.fromEntries(names.map((name, index) => [index, name])),
    label2id: Object.fromEntries(names.map((name, index) => [name, index])),
    problem_type: problemType,
  };
}

const OBJECTIVES: Readonly<Record<string, Objective>> = {
  single_label_classification: 'cross_entropy',
  multi_label_classification: 'binary_cross_entropy',
  regression: 'squared_error',
};

/** What is predicted of a sequence, by `id2label` or `num_labels` and `problem_type`; one label is regression, as in Transformers. */
export function sequenceTask(config: Readonly<Record<string, unknown>>, place: string): SequenceTask {
  const { id2label, num_labels: counted, problem_type: problem } = config;
  const names =
    typeof id2label === 'object' && id2label !== null ? (id2label as Readonly<Record<string, unknown>>) : null;
  const labelCount = names ? Object.keys(names).length : (counted ?? 2);
  const key = `${place}.${names ? 'id2label' : 'num_labels'}`;
  if (typeof labelCount !== 'number' || !Number.isInteger(labelCount) || labelCount < 1)
    throw new ConfigError(key, 'at least one label', labelCount);
  const labelNames =
    names && Array.from({ length: labelCount }, (_, index) => String(names[index] ?? `LABEL_${index}`));
  if (problem === null || problem === undefined) {
    return { labelCount, labelNames, objective: labelCount === 1 ? 'squared_error' : 'cross_entropy' };
  }
  const objective = typeof problem === 'string' ? OBJECTIVES[problem] : undefined;
  if (!objective) throw new ConfigError(`${place}.problem_type`, Object.keys(OBJECTIVES).join(', '), problem);
  if (objective === 'cross_entropy' && labelCount < 2) throw new ConfigError(key, 'at least two classes', labelCount);
  return { labelCount, labelNames, objective };
}
