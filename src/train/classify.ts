// `classify`: a score of whole texts, or of pairs of them, on the body of BERT or of a causal model.
import { z } from 'zod';
import { put, task } from '../client/index.js';
import { ConfigError, DataError } from '../common/index.js';
import {
  decodeLabelled,
  type LabelledRecord,
  type LabelTask,
  labelTask,
  type Placed,
  PROBLEM_TYPES,
  type ProblemType,
  problemOf,
  type ReadResult,
  type TargetRecord,
  withTargets,
} from '../data/index.js';
import { classifierConfig, type Model, modelFromConfig } from '../models/index.js';
import { classScores } from './class-scores.js';
import { evaluateClassifier } from './classify-evaluation.js';
import { type LabelledOptions, layOutLabels, tokeniseLabels } from './data-tasks.js';
import { Feed } from './feed.js';
import { type AdapterOptions, adapterFields, adapterOf } from './lora-options.js';
import { parse } from './parse.js';
import { type Config, type DataChoice, type Recipe, type RecipeOptions, recipeFields } from './recipe.js';
import { expectData, partsOf, recordsOf, skipsBad, split } from './recipe-data.js';

/** Options of {@link classify}. */
export interface ClassifyOptions extends RecipeOptions, AdapterOptions {
  /**
   * A file (JSONL, JSON, CSV), http(s) URL or hf:ID of `{ text, label }` or `{ text, text_pair, label }`, or such records. A label is
   * the name or number of a class, a list of the classes that hold, or a number to predict.
   */
  readonly data: DataChoice<LabelledRecord>;
  /** What is measured at the end. Default: a share `heldOut` of the data, which is not trained on. */
  readonly evaluationData?: DataChoice<LabelledRecord>;
  /** Default 0.1, chosen by the seed; 0 measures nothing. */
  readonly heldOut?: number;
  /** As in config.json. Default: the model's where it is a classifier, else what the labels say. */
  readonly problemType?: ProblemType;
}

const schema = z.strictObject({
  ...recipeFields,
  ...adapterFields,
  evaluationData: z.unknown().optional(),
  heldOut: z.number().min(0).lt(1).default(0.1),
  problemType: z.enum(PROBLEM_TYPES).optional(),
});

type Checked = z.output<typeof schema>;

/** The head of BERT and that of causal models, as peft calls them; and BERT's pooler, which starts anew where a folder lacks it. */
const HEAD_MODULES = ['classifier', 'score', 'pooler'];

/** Fine-tunes a classifier; the head starts anew where the model has none or one of other labels. Each record counts the same. */
export function classify(options: ClassifyOptions): Recipe {
  const checked = parse(schema, options, 'classify', Object.keys(schema.shape));
  expectData(options.data, 'classify.data');
  const { model, data, tokenizer = null, evaluationData } = options;
  if (evaluationData !== undefined) expectData(evaluationData, 'classify.evaluationData');
  let reading: Promise<ReadResult<LabelledRecord>> | null = null; // asked for twice, read once
  const read = () => (reading ??= recordsOf(data, decodeLabelled, 'classify.data'));
  return {
    ...checked,
    kind: 'classify',
    model,
    tokenizer,
    lora: adapterOf(options, checked.quantization, 'classify', HEAD_MODULES),
    hasFreshHead: true,
    async configure(config) {
      const { records } = await read();
      const base = modelFromConfig(config);
      const labels = taskOf(
        records.map(({ record }) => record.label),
        base,
        config,
        checked.problemType,
      );
      refuseSmoothing(checked, labels);
      return classifierConfig(base, labels.names, labels.problemType);
    },
    async prepare(chosen) {
      const { records, skipped } = await read();
      const { seed, sequenceLength: maxTokens } = checked;
      const labels = taskIn(chosen.model);
      const skipBad = skipsBad(data);
      const { known, left } = targetsOf(records, labels, skipBad);
      const given = evaluationData && (await recordsOf(evaluationData, decodeLabelled, 'classify.evaluationData'));
      const sides = split(known, given ? 0 : checked.heldOut, seed);
      const heldOut = given ? targetsOf(given.records, labels, skipsBad(evaluationData)).known : sides.heldOut;
      const isClass = labels.problemType === 'single_label_classification';
      const layout: LabelledOptions = { maxTokens, skipBad, labelAt: chosen.model.labelAt!, isClass };
      const feedOf = (those: readonly Placed<TargetRecord>[]) =>
        Feed.prepare(
          those,
          chosen,
          { options: layout, tokenise: tokeniseLabels, layOut: layOutLabels, labelCountOf: () => 1 },
          seed,
        );
      const feed = await feedOf(sides.train);
      const isMeasured = heldOut.length > 0;
      const evaluate = async (folder: string, parts: number) => {
        const files = put(chosen.tokenizer.files);
        const measure = task(evaluateClassifier);
        const found = await Promise.all(partsOf(heldOut, parts).map((part) => measure(folder, files, part, layout, 1)));
        const predictions = {
          outputs: found.flatMap(({ outputs }) => outputs),
          targets: found.flatMap(({ targets }) => targets),
        };
        return classScores(predictions, labels.problemType, labels.names);
      };
      return {
        records: records.length,
        skippedRecords: skipped + left,
        feed,
        heldOut: isMeasured ? () => feedOf(heldOut) : null,
        evaluate: isMeasured ? evaluate : null,
      };
    },
  };
}

/** The classes: those of a model that is a classifier already and knows all labels, else those of the data. */
function taskOf(
  labels: readonly LabelledRecord['label'][],
  model: Model,
  config: Config,
  chosen: ProblemType | undefined,
): LabelTask {
  if (model.labelAt === undefined) return labelTask(labels, chosen);
  const own = taskIn(model);
  const problemType = chosen ?? (typeof config.problem_type === 'string' ? own.problemType : problemOf(labels));
  const task = { ...own, problemType };
  const records = labels.map((label) => ({ place: '', record: { text: '', label } }));
  return withTargets(records, task).unknown.length === 0 ? task : labelTask(labels, problemType);
}

const PROBLEMS: Readonly<Record<string, ProblemType>> = {
  cross_entropy: 'single_label_classification',
  binary_cross_entropy: 'multi_label_classification',
  squared_error: 'regression',
};

/** What a classifier's configuration says. */
function taskIn({ labelNames, labelCount = 0, objective = 'cross_entropy' }: Model): LabelTask {
  const names = labelNames ?? Array.from({ length: labelCount }, (_unused, index) => `LABEL_${index}`);
  return { problemType: PROBLEMS[objective]!, names };
}

function targetsOf(
  records: readonly Placed<LabelledRecord>[],
  labels: LabelTask,
  skipBad: boolean,
): { readonly known: readonly Placed<TargetRecord>[]; readonly left: number } {
  const { known, unknown } = withTargets(records, labels);
  if (unknown.length > 0 && !skipBad) throw new DataError(unknown[0]!);
  return { known, left: unknown.length };
}

function refuseSmoothing({ labelSmoothing, zLoss }: Checked, { problemType, names }: LabelTask): void {
  if (problemType === 'single_label_classification') {
    if (names.length < 2) throw new ConfigError('classify.data', 'at least two classes', names);
    return;
  }
  for (const [name, value] of Object.entries({ labelSmoothing, zLoss }))
    if (value !== 0) throw new ConfigError(`classify.${name}`, `0 for ${problemType}`, value);
}
