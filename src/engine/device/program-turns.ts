// Programs of a job run one at a time, as a device does; before the first, all ranks have agreed on the job. Takes their time where
// that is asked for.
import { ConfigError } from '../../common/index.js';
import { type Limits, type StepProfile, StepProfiler } from './profile.js';
import type { Program } from './program.js';

export interface TurnHooks {
  /** Checks that all ranks have compiled the same job; called once. */
  agree(): Promise<void>;
  /** Called before each program. */
  prepare(): void;
}

export class ProgramTurns {
  readonly #hooks: TurnHooks;
  #agreement: Promise<void> | null = null;
  #profiler: StepProfiler | null = null;
  #running: Promise<unknown> = Promise.resolve();

  constructor(hooks: TurnHooks) {
    this.#hooks = hooks;
  }

  /** Runs `work` after what is running. */
  take<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#running.then(work, work);
    this.#running = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }
  /** Resolves when nothing runs any more. */
  async ended(): Promise<void> {
    await this.#running;
  }

  agree(): Promise<void> {
    this.#agreement ??= this.#hooks.agree();
    return this.#agreement;
  }

  /** Runs a program, within a turn. */
  async run(program: Program): Promise<void> {
    await this.agree();
    this.#hooks.prepare();
    if (this.#profiler) this.#profiler.add(program.plan, await program.profile());
    else await program.run();
  }

  /** From here on every run takes the time of its instructions. `groupSize`: how many ranks exchange in a group; `isHost`: the device is the host. */
  startProfile(groupSize: (group: number) => number, isHost: boolean): void {
    this.#profiler = new StepProfiler(groupSize, isHost);
  }
  /** Ends what `startProfile` began `steps` steps ago; `limits` measures what the machine can do. */
  endProfile(steps: number, limits: () => Promise<Limits>): Promise<StepProfile> {
    const profiler = this.#profiler;
    if (!profiler) return Promise.reject(new ConfigError('endProfile', 'startProfile() first', 'no profile'));
    return this.take(async () => {
      this.#profiler = null;
      return profiler.summary(steps, await limits());
    });
  }
}
