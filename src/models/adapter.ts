// LoRA adapters in the format of peft: adapter_config.json and adapter_model.safetensors, put on a model, trained with the model
// frozen, or added into its weights.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ConfigError, DataError } from '../common/index.js';
import {
  addLora,
  type LowRankSum,
  linearLayers,
  type Parameter,
  parameterGraph,
  type WeightTarget,
} from '../engine/index.js';
import { count, readConfig } from './config.js';
import { initialValues } from './initialise.js';
import type { Model } from './model.js';
import { SafetensorsFile } from './safetensors.js';
import { writeSafetensors } from './write-safetensors.js';

const off = z.literal(false).nullish();
const empty = z.record(z.string(), z.never()).nullish();

const schema = z.looseObject({
  peft_type: z.literal('LORA').default('LORA'),
  r: count,
  lora_alpha: z.number().positive(),
  lora_dropout: z.number().min(0).lt(1).default(0),
  use_rslora: z.boolean().nullish(),
  target_modules: z.union([z.string(), z.array(z.string()).min(1)]),
  modules_to_save: z.array(z.string().min(1)).nullish(),
  bias: z.literal('none').default('none'),
  // What would change the numbers and is not supported.
  use_dora: off,
  lora_bias: off,
  exclude_modules: z.null().optional(),
  layers_to_transform: z.null().optional(),
  target_parameters: z.null().optional(),
  rank_pattern: empty,
  alpha_pattern: empty,
});

/** An adapter as peft's adapter_config.json describes it. */
export interface Adapter {
  /** adapter_config.json as read (or made), for saving. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly rank: number;
  /** alpha / rank, or alpha / sqrt(rank) when rank-stabilised (arXiv:2312.03732). */
  readonly factor: number;
  /** Share of the adapter's input that is dropped in training. */
  readonly dropout: number;
  /** Whether the linear layer at this path of the model has an adapter. */
  readonly isTarget: (path: string) => boolean;
  /** Whether the module at this path is trained whole beside the adapters, and saved with them (`modules_to_save`). */
  readonly isTrained: (path: string) => boolean;
}

/** A model with an adapter on it: its base parameters are frozen but for whole modules that are trained with the adapter. */
export interface AdaptedModel extends Model {
  readonly adapter: Adapter;
  readonly base: Model;
}

/** Whether an adapter is trained on the model, which is frozen itself. */
export function isAdapted(model: Model): model is AdaptedModel {
  return 'adapter' in model;
}

const PREFIX = 'base_model.model.';
const nameOf = (path: string, half: 'A' | 'B') => `${PREFIX}${path}.lora_${half}.weight`;
/** A parameter's name in adapter_model.safetensors. */
const storedName = (name: string) => (isHalf(name) ? name : PREFIX + name);
const isHalf = (name: string) => name.startsWith(PREFIX);

/** The adapter that a parsed adapter_config.json describes. Errors name the key; `place` is the file. */
export function adapterFromConfig(json: Readonly<Record<string, unknown>>, place = 'adapter_config.json'): Adapter {
  const config = readConfig(schema, json, place);
  const { r: rank, lora_alpha: alpha, target_modules: targets, modules_to_save: whole } = config;
  const isTarget = targetOf(targets, `${place}.target_modules`);
  const isTrained = (path: string): boolean => {
    const modules = path.split('.').map((_part, index, parts) => parts.slice(0, index + 1).join('.'));
    return modules.some((module) => whole?.some((end) => isEndOf(end, module)));
  };
  return {
    config: json,
    rank,
    dropout: config.lora_dropout,
    factor: config.use_rslora ? alpha / Math.sqrt(rank) : alpha / rank,
    isTarget: (path) => isTarget(path) && !isTrained(path),
    isTrained,
  };
}

/** As peft reads target_modules: ends of paths, `all-linear`, or one pattern for whole paths. */
function targetOf(targets: string | readonly string[], key: string): (path: string) => boolean {
  if (targets === 'all-linear') return () => true;
  if (typeof targets !== 'string') return (path) => targets.some((end) => isEndOf(end, path));
  try {
    const pattern = new RegExp(`^(?:${targets})$`);
    return (path) => pattern.test(path);
  } catch {
    throw new ConfigError(key, 'a regular expression', targets);
  }
}

function isEndOf(end: string, path: string): boolean {
  return path === end || path.endsWith(`.${end}`);
}

/** The configuration of an adapter's folder. Rejects with ConfigError for what is not supported, DataError for what is no JSON. */
export async function readAdapter(folder: string): Promise<Adapter> {
  const place = join(folder, 'adapter_config.json');
  try {
    return adapterFromConfig(JSON.parse(await readFile(place, 'utf8')), place);
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    throw new DataError({ place, detail: 'cannot be read as JSON' }, { cause });
  }
}

/** The model with the adapter's layers in its graphs. Programs of it need the parameters of both. */
export function withAdapter(base: Model, adapter: Adapter): AdaptedModel {
  const settings = { ...adapter, nameOf };
  return { ...base, base, adapter, adapt: (graph, isTraining) => addLora(graph, settings, isTraining) };
}

/** What is trained: the adapter's own parameters, and those of modules that are trained whole. */
export function adapterParameters(model: AdaptedModel): readonly Parameter[] {
  return [...parameterGraph(model).parameters.values()].filter(({ isFrozen }) => !isFrozen);
}

/** Hands first values of the adapter to `target.load`: A random, B zero, so that the model starts as it was. */
export function initialiseAdapter(model: AdaptedModel, seed: number, target: WeightTarget): void {
  for (const parameter of adapterParameters(model))
    if (isHalf(parameter.name) && (target.has?.(parameter.name) ?? true))
      target.load(parameter.name, initialValues(parameter, seed));
}

/** How many labels the head has that is saved with the adapter in `folder`; null where none is. */
export async function savedLabelCount(folder: string): Promise<number | null> {
  await using file = await SafetensorsFile.open(join(folder, 'adapter_model.safetensors'));
  const head = ['classifier.weight', 'score.weight'].find((name) => file.tensors.has(storedName(name)));
  return head === undefined ? null : file.tensors.get(storedName(head))!.shape[0]!;
}

/** Hands the adapter's weights in `folder` to `target.load`. Throws DataError that names what is missing or unexpected. */
export async function loadAdapter(
  folder: string,
  model: AdaptedModel,
  target: { load(name: string, values: Float32Array): void },
): Promise<void> {
  await using file = await SafetensorsFile.open(join(folder, 'adapter_model.safetensors'));
  const parameters = adapterParameters(model);
  const names = new Set(parameters.map(({ name }) => storedName(name)));
  const unexpected = [...file.tensors.keys()].find((name) => !names.has(name));
  if (unexpected)
    throw new DataError({ place: file.path, detail: `holds ${unexpected}, which the model has no place for` });
  for (const { name, dims } of parameters) {
    const stored = storedName(name);
    const shape = file.tensors.get(stored)?.shape;
    if (shape && shape.join() !== dims.join()) throw new ConfigError(stored, `[${dims.join(', ')}]`, shape, file.path);
    target.load(name, await file.readFloats(stored));
  }
}

/** Writes a folder that peft opens. */
export async function saveAdapter(
  folder: string,
  model: AdaptedModel,
  read: (name: string) => Float32Array | Promise<Float32Array>,
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const tensors = adapterParameters(model).map(({ name, dims }) => ({
    name: storedName(name),
    shape: dims,
    read: () => read(name),
  }));
  await writeSafetensors(join(folder, 'adapter_model.safetensors'), tensors);
  const config = { peft_type: 'LORA', bias: 'none', task_type: 'CAUSAL_LM', ...model.adapter.config };
  await writeFile(join(folder, 'adapter_config.json'), `${JSON.stringify(config, null, 2)}\n`);
}

/**
 * Reads the base model's parameters with the adapter added in: what saveModel(folder, model.base, …) writes as a plain model.
 * `sum` multiplies; it must outlive the reader.
 */
export function mergedWeights(
  model: AdaptedModel,
  read: (name: string) => Float32Array | Promise<Float32Array>,
  sum: LowRankSum,
): (name: string) => Promise<Float32Array> {
  const layers = linearLayers(parameterGraph(model.base)).filter(({ path }) => model.adapter.isTarget(path));
  const byWeight = new Map(layers.map((layer) => [layer.weight.name, layer]));
  return async (name) => {
    const layer = byWeight.get(name);
    if (!layer) return read(name);
    const { path, weight, isTransposed } = layer;
    const [w, a, b] = await Promise.all([name, nameOf(path, 'A'), nameOf(path, 'B')].map(read));
    const dims = weight.dims as readonly [number, number];
    return sum.add({ w: w!, dims, isTransposed, a: a!, b: b!, rank: model.adapter.rank, factor: model.adapter.factor });
  };
}
