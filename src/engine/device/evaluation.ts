// Measures a training job between two of its steps: the forward of every micro-batch, by a program of its own or by the stages of a pipeline.
import { ConfigError } from '../../common/index.js';
import type { Batch } from './batch.js';
import type { PipelineRunner } from './pipeline-runner.js';
import { Program } from './program.js';
import type { ProgramTurns } from './program-turns.js';

export class Evaluation implements Disposable {
  readonly #runner: Program | PipelineRunner;
  readonly #turns: ProgramTurns;

  /** `runner` becomes this one's. */
  constructor(runner: Program | PipelineRunner, turns: ProgramTurns) {
    this.#runner = runner;
    this.#turns = turns;
  }

  /** The sum of the losses of `batches`, each written into a program by `write`. */
  async run(batches: readonly Batch[], write: (program: Program, batch: Batch) => void): Promise<number> {
    const runner = this.#runner;
    const turns = this.#turns;
    let sum = 0;
    if (runner instanceof Program) {
      for (const batch of batches)
        await turns.take(async () => {
          write(runner, batch);
          await turns.run(runner);
          sum += lossOf(runner);
        });
      return sum;
    }
    const { micros } = runner.compiled.shape;
    if (batches.length % micros !== 0)
      throw new ConfigError('batches', `a multiple of ${micros} micro-batches`, batches.length);
    for (let first = 0; first < batches.length; first += micros)
      await turns.take(async () => {
        await turns.agree(); // before a stage waits for another one
        await runner.run({
          prepare: (program, micro) => write(program, batches[first + micro]!),
          run: (program) => turns.run(program),
          finish: (program) => {
            if (program.plan.graph.outputs.has('loss')) sum += lossOf(program);
          },
        });
      });
    return sum;
  }

  [Symbol.dispose](): void {
    if (this.#runner instanceof Program) this.#runner.dispose();
    else this.#runner[Symbol.dispose]();
  }
}

const lossOf = (program: Program): number => program.floats('loss')[0]!;
