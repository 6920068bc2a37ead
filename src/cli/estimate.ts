// `raylite estimate`: what a training file needs of each worker, before anything is started.
import type { Command } from 'commander';
import { type Life, showBytes } from '../engine/index.js';
import { type Estimate, estimate } from '../train/index.js';
import { print, printJson, table } from './output.js';
import { readTrainingFile } from './training-file.js';

interface Options {
  readonly lives?: true;
  readonly json?: true;
}

const COLUMNS = 72;
const LEVELS = ' ▁▂▃▄▅▆▇█';

export function register(program: Command): void {
  program
    .command('estimate')
    .summary('what a training file needs, before it runs')
    .description(
      'Compiles the programs of a training file and prints the memory of each worker, by use. Starts nothing.',
    )
    .argument('<file>', 'YAML or JSON file, as for "raylite train"')
    .option('--lives', 'also list every tensor of the arena: bytes, and the first and last instruction that touch it')
    .option('--json', 'print everything as JSON')
    .addHelpText('after', '\nExample:\n  $ raylite estimate examples/sft/sft.json')
    .action(async (file: string, options: Options) => {
      const found = await estimate(await readTrainingFile(file));
      if (options.json) printJson(found);
      else show(found, options.lives === true);
    });
}

function show(found: Estimate, hasLives: boolean): void {
  const { memory, arena, workers, mesh } = found;
  const shape = `${found.microBatch} × ${found.sequenceLength} tokens`;
  print(
    `${(found.parameterCount / 1e6).toFixed(1)} M parameters, ${workers} worker${workers === 1 ? '' : 's'}, ZeRO stage ${found.zeroStage}, micro-batches of ${shape}`,
  );
  if (mesh.tensor > 1 || mesh.sequence > 1)
    print(
      `${mesh.tensor} workers share each matrix, ${mesh.sequence} the rows of a micro-batch; ${mesh.data} data parallel`,
    );
  print();
  print(
    table(
      ['of each worker', 'memory'],
      [
        ['parameters', showBytes(memory.parameterBytes)],
        ['gradients', showBytes(memory.gradientBytes)],
        ['optimizer state', showBytes(memory.optimizerBytes)],
        ['activations', showBytes(memory.activationBytes)],
        ['workspaces of kernels', showBytes(memory.workspaceBytes)],
        ['batch and constants', showBytes(memory.batchBytes)],
        ['total', showBytes(memory.totalBytes)],
        ...(memory.hostBytes > 0 ? [['offloaded to the host', showBytes(memory.hostBytes)] as const] : []),
        ...(memory.diskBytes > 0 ? [['offloaded to disk', showBytes(memory.diskBytes)] as const] : []),
      ],
    ),
  );
  print();
  if (found.pipeline) print(`${pipelineText(found.pipeline)}\n`);
  print(
    `activations: the backward ${found.recompute}; peak ${showBytes(arena.peakBytes)}, at least ${showBytes(arena.lowerBoundBytes)}`,
  );
  print(
    `|${chart(arena.lives, arena.instructions)}| live over the ${arena.instructions} instructions of ${found.pipeline ? 'its longest program' : 'a micro-batch'}`,
  );
  if (!hasLives) return;
  print();
  const rows = arena.lives.toSorted((a, b) => a.first - b.first || b.bytes - a.bytes);
  print(
    table(
      ['tensor', 'bytes', 'offset', 'life'],
      rows.map((life) => [life.path, `${life.bytes}`, `${life.offsetBytes}`, `#${life.first} to #${life.last}`]),
    ),
  );
}

function pipelineText(pipeline: NonNullable<Estimate['pipeline']>): string {
  const { stages, chunks, micros, stage, sets, setBytes, idleShare } = pipeline;
  const parts = chunks === 1 ? '' : ` of ${chunks} parts each`;
  const kept = sets.map((count, chunk) => `${count} × ${showBytes(setBytes[chunk]!)}`).join(' and ');
  return `${stages} stages${parts}, ${micros} micro-batches a step: stages wait ${(100 * idleShare).toFixed(1)} % of it; stage ${stage} needs most and keeps ${kept} of activations`;
}

/** Bytes alive, as a line of blocks: full is the peak. */
function chart(lives: readonly Life[], instructions: number): string {
  const columns = Math.min(COLUMNS, instructions);
  const live = Array.from({ length: columns }, (_, column) => {
    const [from, to] = [column, column + 1].map((edge) => Math.floor((edge * instructions) / columns));
    let most = 0;
    for (let at = from!; at < to!; at++) {
      most = Math.max(
        most,
        lives.reduce((sum, life) => (life.first <= at && at <= life.last ? sum + life.bytes : sum), 0),
      );
    }
    return most;
  });
  const peak = Math.max(1, ...live);
  return live.map((bytes) => LEVELS[Math.ceil((bytes / peak) * (LEVELS.length - 1))]).join('');
}
