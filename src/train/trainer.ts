// The Trainer: prepares data and plan, tries until the steps are done (attempt.ts), hands back the model.
// It places and orders; the arithmetic is in the ranks (rank.ts), the bytes are in the object store (feed.ts).
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ConfigError, TaskError, TrainingError } from '../common/index.js';
import type { RunReport } from '../observe/index.js';
import { attempt, type Run } from './attempt.js';
import { isWorthRetrying } from './failure.js';
import { RunMonitors } from './monitor/run-monitors.js';
import { prepare } from './prepare.js';
import { profileText } from './profile-text.js';
import { type StepEvent, stepReport, type TrainingEvent } from './progress.js';
import { RunReporter } from './run-reporter.js';
import { RunState, type TrainingResult } from './run-state.js';
import { checkTrainerOptions, type TrainerOptions, type TrainerSettings } from './trainer-options.js';

/** What `fit` tells meanwhile, and what ends it early. */
export interface FitOptions {
  readonly onProgress?: (event: TrainingEvent) => void;
  /** Ends the run: workers are ended and `fit` rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Trains a model by a recipe on a number of workers of the cluster that this process has joined. */
export class Trainer {
  readonly #settings: TrainerSettings;
  readonly #reporter = new RunReporter();

  /** Checks the options; throws {@link ConfigError} naming the path of the first wrong one. */
  constructor(options: TrainerOptions) {
    this.#settings = checkTrainerOptions(options);
  }

  /**
   * Trains to the end and returns the losses and the model. Workers that die are replaced and training goes on from the last
   * checkpoint, up to `run.failure.maxFailures` times; then, or where no room for them was found in time, it rejects with
   * {@link TrainingError}. A loss that is not finite
   * is an `EngineError` naming the step, and is not retried.
   */
  async fit(options: FitOptions = {}): Promise<TrainingResult> {
    const settings = this.#settings;
    const emit = options.onProgress ?? (() => {});
    const prepared = await prepare(settings, emit);
    const state = new RunState(prepared, settings.recipe.sequenceLength);
    const monitors = new RunMonitors(prepared.monitors, prepared.trainBatch, (note) =>
      emit({ kind: 'notes', notes: [note] }),
    );
    let last: StepEvent | null = null;
    const run: Run = {
      settings,
      prepared,
      state,
      emit,
      waits: (event) => {
        emit(event);
        this.#report(run, state.failures === 0 ? 'STARTING' : 'RESTARTING', event.reason);
      },
      late: (news) => {
        emit(news);
        this.#report(run, 'RUNNING', news.kind === 'late' ? news.message : undefined);
      },
      begins: (fromStep) => monitors.start(fromStep),
      stepped: (event) => {
        last = event;
        emit(event);
        monitors.stepped(event);
        this.#reporter.report(stepReport(event, state.identity));
      },
      evaluated: (event) => {
        const { loss, perplexity } = event;
        emit(event);
        monitors.scored(perplexity === null ? { loss } : { loss, perplexity });
        if (last && Number.isFinite(loss))
          this.#reporter.report({ ...stepReport(last, state.identity), evalLoss: loss });
      },
      profiled: async (step, profiles) => {
        const { text: options = {}, outputFile = null } = prepared.profile ?? {};
        const text = profileText(profiles, options);
        emit({ kind: 'profile', step, text });
        if (outputFile !== null) await writeProfile(outputFile, text);
      },
      signal: options.signal,
    };
    try {
      for (;;) {
        try {
          await attempt(run);
          break;
        } catch (error) {
          await this.#afterFailure(error, run);
        }
      }
    } catch (error) {
      const ended = options.signal?.aborted ? 'STOPPED' : 'FAILED';
      this.#report(run, ended, error instanceof Error ? error.message : String(error));
      await Promise.all([this.#reporter.flush(), monitors.flush()]);
      throw error;
    }
    this.#report(run, 'SUCCEEDED');
    await this.#reporter.flush();
    const evaluation = (await prepared.evaluate?.(join(prepared.runPath, 'model'), state.share.workers)) ?? null;
    if (evaluation !== null) monitors.scored(evaluation);
    await monitors.flush();
    return { ...state.result(), evaluation };
  }

  /** Returns if the run may try again; throws what ends it otherwise. */
  async #afterFailure(error: unknown, run: Run): Promise<void> {
    // What the rank gave up for is the user's to see as it is.
    if (error instanceof TaskError && error.cause instanceof TrainingError) throw error.cause;
    if (run.signal?.aborted || !isWorthRetrying(error)) throw error;
    const { prepared, state } = run;
    state.failures += 1;
    const { failures } = state;
    const { maxFailures } = this.#settings.run.failure;
    run.emit({ kind: 'failed', failures, maxFailures, error });
    const message = error instanceof Error ? error.message : String(error);
    if (maxFailures >= 0 && failures > maxFailures)
      throw new TrainingError(
        {
          detail: `${prepared.name} failed ${failures} time${failures === 1 ? '' : 's'}, maxFailures is ${maxFailures}: ${message}`,
        },
        { cause: error },
      );
    this.#report(run, 'RESTARTING', message);
    await prepared.feed.restore();
  }

  #report({ prepared, state }: Run, phase: RunReport['state'], message?: string): void {
    const { length } = state.losses;
    const loss = state.losses[length - 1];
    this.#reporter.report({
      ...state.identity,
      state: phase,
      step: length,
      totalSteps: prepared.totalSteps,
      ...(loss === undefined || !Number.isFinite(loss) ? {} : { loss }),
      ...(message === undefined ? {} : { message: message.slice(0, 4000) }),
    });
  }
}

async function writeProfile(path: string, text: string): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, `${text}\n`);
  } catch (cause) {
    throw new ConfigError('deepspeed.flops_profiler.output_file', 'a file that can be written', path, String(cause), {
      cause,
    });
  }
}
