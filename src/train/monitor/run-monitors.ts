// Writes the curves of a run wherever it was asked for, in order and behind the steps: training never waits for it. A file that cannot
// be begun ends the run before its first step; one that fails later is told once and written no more.
import { ConfigError } from '../../common/index.js';
import type { StepEvent } from '../progress.js';
import type { Scores } from '../recipe.js';
import { CsvLog } from './csv-log.js';
import type { ScalarLog } from './scalar-log.js';
import { positionOf, type Scalar, type ScalarNames, scoreScalars, stepScalars } from './scalars.js';
import { TensorBoardLog } from './tensorboard-log.js';

/** What writes one format to one folder. */
export interface MonitorSettings {
  readonly kind: 'csv' | 'tensorboard';
  readonly folder: string;
  readonly names: ScalarNames;
  /** The option that asked for it, for errors. */
  readonly option: string;
}

interface Monitor extends MonitorSettings {
  readonly log: ScalarLog;
  isBroken: boolean;
}

export class RunMonitors {
  readonly #monitors: readonly Monitor[];
  readonly #trainBatch: number;
  readonly #note: (note: string) => void;
  #isBegun = false;
  #lastStep = 0;
  #work: Promise<void> = Promise.resolve();

  /** `trainBatch`: rows of a step. `note` is told what is written no more, and why. */
  constructor(
    settings: readonly MonitorSettings[],
    trainBatch: number,
    note: (note: string) => void,
    nowMs: () => number = Date.now,
  ) {
    this.#monitors = settings.map((each) => ({
      ...each,
      log: each.kind === 'csv' ? new CsvLog(each.folder) : new TensorBoardLog(each.folder, nowMs),
      isBroken: false,
    }));
    this.#trainBatch = trainBatch;
    this.#note = note;
  }

  /** Before the steps behind `fromStep`, also of a later attempt. Throws {@link ConfigError} for a folder that cannot be written. */
  async start(fromStep: number): Promise<void> {
    const isNew = !this.#isBegun && fromStep === 0;
    this.#isBegun = true;
    await this.flush();
    for (const { log, names, folder, option, isBroken } of this.#monitors) {
      if (isBroken) continue;
      try {
        await log.start(positionOf(names, fromStep, this.#trainBatch), isNew);
      } catch (cause) {
        throw new ConfigError(option, 'a folder that can be written', folder, String(cause), { cause });
      }
    }
  }

  stepped(event: StepEvent): void {
    this.#lastStep = event.step;
    this.#append((names) => stepScalars(names, event));
  }

  /** Behind the last step so far. */
  scored(scores: Scores): void {
    this.#append((names) => scoreScalars(names, scores));
  }

  /** Resolves when everything was written. */
  flush(): Promise<void> {
    return this.#work;
  }

  #append(scalarsOf: (names: ScalarNames) => readonly Scalar[]): void {
    const step = this.#lastStep;
    for (const monitor of this.#monitors)
      this.#work = this.#work.then(async () => {
        if (monitor.isBroken) return;
        const { names, log, kind, folder } = monitor;
        try {
          await log.append(positionOf(names, step, this.#trainBatch), scalarsOf(names));
        } catch (error) {
          monitor.isBroken = true;
          this.#note(`${kind} writes nothing more to ${folder}: ${String(error)}`);
        }
      });
  }
}
