// `raylite estimate`: what a training file needs of each worker, before anything is started.
import { type Command, InvalidArgumentError } from 'commander';
import { type Life, showBytes } from '../engine/index.js';
import { type Estimate, estimate, modelStateBytes } from '../train/index.js';
import { print, printJson, table } from './output.js';
import { readTrainingFile } from './training-file.js';

interface Options {
  readonly params?: number;
  readonly workers?: number;
  readonly lives?: true;
  readonly json?: true;
}

const COLUMNS = 72;
const WORKERS = [1, 4, 16, 64, 256, 1024];
const LEVELS = ' ▁▂▃▄▅▆▇█';

export function register(program: Command): void {
  program
    .command('estimate')
    .summary('what a training file needs, before it runs')
    .description(
      'Compiles the programs of a training file and prints the memory of each worker, by use. Starts nothing. Without a file: what a model of so many parameters needs by the formulas of ZeRO, without activations.',
    )
    .argument('[file]', 'YAML or JSON file, as for "raylite train"')
    .option('--params <count>', 'in place of a file: parameters of a model, 7.5e9', countOf)
    .option('--workers <count>', 'with --params: workers that share it (default: 1, 4, 16, … 1024)', countOf)
    .option('--lives', 'also list every tensor of the arena: bytes, and the first and last instruction that touch it')
    .option('--json', 'print everything as JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  $ raylite estimate examples/sft/sft.json\n  $ raylite estimate --params 7.5e9 --workers 64',
    )
    .action(async (file: string | undefined, options: Options, command: Command) => {
      const { params, workers } = options;
      if ((file === undefined) === (params === undefined)) command.error('error: give a training file or --params');
      if (file !== undefined && workers !== undefined)
        command.error('error: --workers goes with --params; a training file has scaling.workers');
      if (params !== undefined) return showStates(params, workers ? [workers] : WORKERS, options.json === true);
      if (file === undefined) return;
      const found = await estimate(await readTrainingFile(file));
      if (options.json) printJson(found);
      else show(found, options.lives === true);
    });
}

/** The table of the ZeRO paper, for one model. */
function showStates(params: number, workers: readonly number[], isJson: boolean): void {
  const rows = workers.map((count) => ({
    workers: count,
    bytes: ([0, 1, 2, 3] as const).map((stage) => modelStateBytes(params, count, stage)),
  }));
  if (isJson) {
    printJson({ parameters: params, rows });
    return;
  }
  print('bytes of each worker: parameters and gradients in 16 bits, float32 masters and two moments of Adam');
  print();
  print(
    table(
      ['workers', 'stage 0', 'stage 1', 'stage 2', 'stage 3'],
      rows.map(({ workers: count, bytes }) => [`${count}`, ...bytes.map(showBytes)]),
    ),
  );
}

/** A whole number, also as 7.5e9. */
function countOf(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new InvalidArgumentError('Expected a positive whole number, as 64 or 7.5e9.');
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
        ...(memory.exchangeBytes > 0 ? [['exchanges', showBytes(memory.exchangeBytes)] as const] : []),
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
