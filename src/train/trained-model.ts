// The model that a run trains: that of the configuration, or an adapter on it. Driver and ranks build the same.
import {
  type AdaptedModel,
  adapterFromConfig,
  type Model,
  modelFromConfig,
  withAdapter,
  withNf4,
} from '../models/index.js';
import type { Recipe, RecipeSettings } from './recipe.js';

export interface TrainedModelPlan {
  /** config.json of the model. */
  readonly config: Readonly<Record<string, unknown>>;
  /** adapter_config.json of what is trained on the frozen model; null: the model itself is trained. */
  readonly adapter: Readonly<Record<string, unknown>> | null;
  /** The frozen weights of linear layers in 4 bits. */
  readonly quantization: RecipeSettings['quantization'];
}

export function trainedModel({ config, adapter, quantization }: TrainedModelPlan): Model | AdaptedModel {
  const model = modelFromConfig(config);
  if (adapter === null) return model;
  const adapted = withAdapter(model, adapterFromConfig(adapter, 'adapter'));
  return quantization === null ? adapted : withNf4(adapted, { isDouble: quantization.doubleQuant });
}

/** adapter_config.json, as peft writes it, of the recipe's choice. */
export function adapterConfigOf({ kind, lora, model }: Recipe, family: Model['family']): TrainedModelPlan['adapter'] {
  if (lora === null) return null;
  const { rank, alpha, dropout, targetModules, rslora, modulesToSave } = lora;
  return {
    peft_type: 'LORA',
    task_type: kind === 'classify' ? 'SEQ_CLS' : 'CAUSAL_LM',
    base_model_name_or_path: typeof model === 'string' ? model : null,
    r: rank,
    lora_alpha: alpha,
    lora_dropout: dropout,
    target_modules: targetModules,
    use_rslora: rslora,
    modules_to_save: modulesToSave.length === 0 ? null : modulesToSave,
    bias: 'none',
    fan_in_fan_out: family === 'gpt2',
    inference_mode: true,
  };
}
