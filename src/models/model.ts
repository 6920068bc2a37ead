// A model as this room hands it out: the engine's view of it, and what its checkpoint folder says besides.
import type { LanguageModel } from '../engine/index.js';

/** Architectures, by `model_type` of a config.json. */
export type Family = 'bert' | 'gpt2' | 'gpt_neox' | 'llama' | 'mistral' | 'opt' | 'qwen2' | 'qwen3';

/** A model of Hugging Face's: its graph, its configuration, and the names of its parameters in files. */
export interface Model extends LanguageModel {
  readonly family: Family;
  /** Name of the class in Transformers: `GPT2LMHeadModel`. */
  readonly architecture: string;
  /** config.json as read (or made), for saving. */
  readonly config: Readonly<Record<string, unknown>>;
  /** The output matrix is the embedding table. */
  readonly isTied: boolean;
  /** What files call the output matrix when it is stored: `lm_head.weight`. */
  readonly outputName: string;
  /** A classifier's row of each sequence that is labelled. */
  readonly labelAt?: 'first' | 'last';
  /** A classifier's classes by number, where the configuration names them. */
  readonly labelNames?: readonly string[] | null;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
  readonly padTokenId: number | null;
  /** Prefix of the checkpoint's names that files of the bare base model lack: `transformer.`. */
  readonly prefix: string;
  /** Names in old files that hold no parameter (masks, frequency tables). */
  readonly ignoredNames: RegExp;
}
