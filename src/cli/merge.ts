// `raylite merge ADAPTER OUT`: an adapter and its base model as one plain model.
import type { Command } from 'commander';
import { ConfigError } from '../common/index.js';
import { mergeAdapter } from '../train/index.js';
import { print, printJson } from './output.js';

interface Options {
  readonly base?: string;
  readonly dtype: string;
  readonly json?: true;
}

const DTYPES = ['f32', 'bf16', 'f16'] as const;

export function register(program: Command): void {
  program
    .command('merge')
    .summary('add a LoRA adapter into its base model')
    .description('Writes base + adapter as a plain Hugging Face folder, with the tokenizer of the base.')
    .argument('<adapter>', 'folder with adapter_config.json and adapter_model.safetensors')
    .argument('<out>', 'folder to write')
    .option('--base <folder>', 'the model it was trained on (default: the one that adapter_config.json names)')
    .option('--dtype <type>', `how weights are stored: ${DTYPES.join(', ')}`, 'f32')
    .option('--json', 'print the result as JSON')
    .addHelpText('after', '\nExample:\n  $ raylite merge raylite_results/run/adapter merged --base ./gpt2')
    .action(merge);
}

async function merge(adapter: string, out: string, options: Options): Promise<void> {
  const dtype = DTYPES.find((name) => name === options.dtype);
  if (dtype === undefined) throw new ConfigError('--dtype', `one of ${DTYPES.join(', ')}`, options.dtype);
  const { base } = options;
  const model = await mergeAdapter(adapter, out, { dtype, ...(base === undefined ? {} : { base }) });
  if (options.json) printJson({ model });
  else print(`Model: ${model}`);
}
