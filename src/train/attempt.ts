// One try of a run with one group of workers: from the newest checkpoint through the steps to the exported model. Workers may join
// it behind a checkpoint; when one is lost, the try is over.
import { join } from 'node:path';
import { ConfigError } from '../common/index.js';
import { coordinatesOf, type StepProfile } from '../engine/index.js';
import { exportAll, keepBest, leaveBest } from './best-model.js';
import { type CheckpointIndex, checkpointPath, commit, newest } from './checkpoint.js';
import { bestOf, isStale, measureHeldOut } from './held-out.js';
import type { Prepared } from './prepare.js';
import { profileOrder } from './profile-settings.js';
import { type EvaluatedEvent, Pace, type StepEvent, type TrainingEvent, type WaitEvent } from './progress.js';
import { RankGroup } from './rank-group.js';
import type { LateNews, StepReport } from './rank-messages.js';
import type { RunState } from './run-state.js';
import { takeSamples } from './samples.js';
import type { TrainerSettings } from './trainer-options.js';

/** Orders in flight: while the ranks compute one step, the next is already in their queues. */
const STEPS_IN_FLIGHT = 2;

/** How often workers of nodes that are to leave look for room elsewhere where there was none. */
const MOVE_INTERVAL_MS = 5000;

/** What an attempt works on, and whom it tells. */
export interface Run {
  readonly settings: TrainerSettings;
  readonly prepared: Prepared;
  readonly state: RunState;
  readonly emit: (event: TrainingEvent) => void;
  /** There is no room for workers yet. */
  readonly waits: (event: WaitEvent) => void;
  /** Ranks let others wait, or have come. */
  readonly late: (news: LateNews) => void;
  /** The steps behind `fromStep` come next. */
  readonly begins: (fromStep: number) => Promise<void>;
  /** A step is done. */
  readonly stepped: (event: StepEvent) => void;
  /** What is held out was measured. */
  readonly evaluated: (event: EvaluatedEvent) => void;
  /** The profiled steps are done, the last of them is `step`; of each worker. */
  readonly profiled: (step: number, profiles: readonly StepProfile[]) => Promise<void>;
  readonly signal: AbortSignal | undefined;
}

/** Starts workers and trains with them to the end. Rejects with what ended it before, or with the reason of `run.signal`. */
export async function attempt(run: Run): Promise<void> {
  const { settings, prepared, state, signal } = run;
  signal?.throwIfAborted();
  // What a node held may be waited for once it was there; what never was is a mistake, and said at once.
  const isPatient = state.failures > 0;
  const { joinTimeoutSeconds } = settings.run.failure;
  const seconds = isPatient && joinTimeoutSeconds > 0 ? joinTimeoutSeconds : null;
  const wait = {
    isPatient,
    seconds,
    onWait: (workers: number, reason: string) => run.waits({ kind: 'waiting', workers, reason, seconds }),
    ...(signal && { signal }),
  };
  const lateMsMax = settings.run.failure.collectiveTimeoutSeconds * 1000;
  const options = { scaling: settings.scaling, lateMsMax, onLate: run.late };
  await using group = await RankGroup.start(options, prepared.counts, wait);
  let onAbort = (): void => {};
  const stopped = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(signal?.reason);
  });
  stopped.catch(() => {}); // raced below; nobody else asks
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted) onAbort(); // while the workers started
  try {
    await new Attempt(run, group, (work) => Promise.race([work, stopped, group.lost])).toTheEnd();
    await group.close();
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

class Attempt {
  readonly #run: Run;
  readonly #group: RankGroup;
  readonly #orStopped: <T>(work: Promise<T>) => Promise<T>;
  readonly #pace = new Pace();
  /** When room elsewhere is looked for, at the earliest; 0: it was not yet. */
  #movesAtMs = 0;

  constructor(run: Run, group: RankGroup, orStopped: <T>(work: Promise<T>) => Promise<T>) {
    this.#run = run;
    this.#group = group;
    this.#orStopped = orStopped;
  }

  async toTheEnd(): Promise<void> {
    const { prepared, state, emit } = this.#run;
    const { runPath, totalSteps } = prepared;
    const group = this.#group;
    const { plan, estimate, workers } = state.shareOut(group.ranks.length);
    await this.#orStopped(group.join(plan.mesh, state.groupName));
    if (group.hostReason !== null)
      emit({ kind: 'notes', notes: [`GPUs exchange through the host: ${group.hostReason}`] });
    const { parameterCount } = await this.#orStopped(group.build(plan));
    state.parameterCount = parameterCount;
    const from = await this.#orStopped(this.#restore());
    await this.#orStopped(this.#run.begins(from));
    emit({
      kind: 'started',
      failures: state.failures,
      parameterCount,
      estimateBytes: estimate.totalBytes,
      workers,
      group: group.kind,
      fromStep: from,
      totalSteps,
    });
    await this.#orStopped(this.#steps(from));
    const best = this.#run.settings.run.evaluation?.keepBest ? bestOf(state.heldOutLosses) : null;
    if (best && (await leaveBest(prepared, best.step))) return;
    if (best) emit({ kind: 'notes', notes: [`The best model, of step ${best.step}, is gone: the last one is left`] });
    await this.#orStopped(exportAll(group, prepared, runPath));
  }

  /** Loads the newest checkpoint on all ranks; the first step to do. */
  async #restore(): Promise<number> {
    const { prepared, state } = this.#run;
    const found = await newest(prepared.runPath);
    if (found === null) {
      state.startOver();
      return 0;
    }
    if (found.index.fingerprint !== prepared.fingerprint)
      throw new ConfigError(
        'trainer.run.name',
        'a run with the same model, data, sizes, optimizer and seed',
        prepared.name,
        `The checkpoint ${found.path} is of another run; choose another name`,
      );
    await this.#group.all((rank) => rank.load(found.path));
    state.goOn(found.index, found.path);
    return found.index.step;
  }

  /** Steps [from, totalSteps) with checkpoints between them. */
  async #steps(from: number): Promise<void> {
    const { settings, prepared, state, emit, stepped, profiled, signal } = this.#run;
    const { totalSteps, tokenizer } = prepared;
    const { checkpoint, samples = null, evaluation = null } = settings.run;
    const { everySteps } = checkpoint;
    const patience = evaluation?.patience ?? null;
    const isDue = (step: number, every: number) => every > 0 && (step % every === 0 || step === totalSteps);
    const inFlight: { readonly step: number; readonly reports: Promise<StepReport[]> }[] = [];
    const settleOldest = async (): Promise<void> => {
      const { step, reports } = inFlight.shift()!;
      stepped(state.settle(step, await reports, this.#pace.tick(performance.now())));
      const { choices } = (await reports)[0]!; // other ranks have the same shapes
      if (choices.length > 0) emit({ kind: 'notes', notes: choices });
      const profiles = (await reports).flatMap(({ profile }) => profile ?? []);
      if (profiles.length > 0) await profiled(step + 1, profiles);
    };
    for (let step = from; step < totalSteps && !isStale(state.heldOutLosses, patience); step += 1) {
      if (this.#isToMove()) {
        while (inFlight.length > 0) await settleOldest();
        await this.#move(step);
      }
      signal?.throwIfAborted(); // who stopped the run is told already, and takes what is written for its end
      const reports = this.#order(step, from);
      reports.catch(() => {}); // awaited by settleOldest, unless an earlier step failed first
      inFlight.push({ step, reports });
      const isSampled = samples !== null && (step + 1) % samples.everySteps === 0;
      const isEvaluated = evaluation !== null && isDue(step + 1, evaluation.everySteps);
      const isStop = isDue(step + 1, everySteps) || isSampled || isEvaluated;
      while (inFlight.length >= (isStop ? 1 : STEPS_IN_FLIGHT)) await settleOldest();
      if (isSampled) {
        const said = await takeSamples(this.#group, state.share.plan.mesh, tokenizer, samples);
        emit({ kind: 'samples', step: step + 1, samples: said });
      }
      if (isEvaluated) await this.#evaluate(step + 1, evaluation.keepBest);
      const isCheckpoint = isDue(step + 1, everySteps) || (everySteps > 0 && isStale(state.heldOutLosses, patience));
      if (isCheckpoint) await this.#checkpoint(step + 1);
      if (isCheckpoint && step + 1 < totalSteps) await this.#grow(step + 1);
    }
    while (inFlight.length > 0) await settleOldest();
    const best = isStale(state.heldOutLosses, patience) && bestOf(state.heldOutLosses);
    if (best) {
      const reason = `nothing that was measured since step ${best.step} is better`;
      emit({ kind: 'notes', notes: [`The run ends after ${state.losses.length} of ${totalSteps} steps: ${reason}`] });
    }
  }

  /** Sends one step to all ranks, with their micro-batches as objects made by data tasks. */
  #order(step: number, from: number): Promise<StepReport[]> {
    const { prepared, state } = this.#run;
    const { feed, totalSteps, profile } = prepared;
    const { batch, plan } = state.share;
    const order = {
      profile: profile === null ? null : profileOrder(profile, step, from, totalSteps),
      step,
      labelCount: feed.labelCount(step, batch),
    };
    const { mesh } = plan;
    return this.#group.all((rank, index) =>
      rank.step(order, feed.microBatches(step, coordinatesOf(mesh, index).data, mesh.data, batch)),
    );
  }

  /** Measures what is held out, and keeps the model where that is asked for and it is the best so far. */
  async #evaluate(step: number, keepsBest: boolean): Promise<void> {
    const { prepared, settings, state, evaluated } = this.#run;
    const start = performance.now();
    const loss = await measureHeldOut(this.#group, state.share, prepared.heldOut!);
    const isBest = state.measured(step, loss);
    if (keepsBest && isBest) await keepBest(this.#group, prepared, step);
    const perplexity = settings.recipe.kind === 'classify' ? null : Math.exp(loss);
    const seconds = (performance.now() - start) / 1000;
    evaluated({ kind: 'evaluated', step, loss, perplexity, isBest, seconds });
  }

  async #checkpoint(step: number): Promise<void> {
    const { settings, prepared, state, emit } = this.#run;
    const path = checkpointPath(prepared.runPath, step);
    const files = (await this.#group.all((rank) => rank.save(path))).filter((file) => file !== null);
    if (prepared.isAdapter) await this.#group.all((rank) => rank.exportAdapter(join(path, 'adapter')));
    const { fingerprint } = prepared;
    const { losses, heldOutLosses, scaler } = state;
    const history = { losses: [...losses], heldOutLosses: [...heldOutLosses] };
    const index: CheckpointIndex = { format: 1, step, files, fingerprint, ...history, scaler };
    state.saved(await commit(prepared.runPath, index, settings.run.checkpoint.numToKeep));
    emit({ kind: 'checkpoint', step, path });
  }

  /** Nodes with workers on them are to leave, and that was not looked into lately. */
  #isToMove(): boolean {
    return this.#group.leavingNodes.size > 0 && performance.now() >= this.#movesAtMs;
  }

  /**
   * Does without the workers on nodes that are to leave, behind `step` steps: the state goes on in memory. Where there is no room for the
   * least that will do, a checkpoint keeps what was done until now, and room is looked for again.
   */
  async #move(step: number): Promise<void> {
    const { prepared, state, emit } = this.#run;
    const group = this.#group;
    const holders = group.ranks;
    if (await group.leave(prepared.counts)) {
      const { plan, workers } = state.shareOut(group.ranks.length);
      await group.reshape(holders, plan, { step, scaler: state.scaler }, state.groupName);
      emit({ kind: 'moved', step, workers, group: group.kind });
      return;
    }
    if (this.#movesAtMs === 0) {
      const nodes = [...group.leavingNodes].join(', ');
      emit({
        kind: 'notes',
        notes: [
          `${nodes} is to leave, and there is no room for its workers elsewhere: once it is gone the run needs run.failure`,
        ],
      });
      if (step > 0) await this.#checkpoint(step);
    }
    this.#movesAtMs = performance.now() + MOVE_INTERVAL_MS;
  }

  /** Takes in more workers where there is room for them: the state of the job goes on in memory, and the next step is shared by all. */
  async #grow(step: number): Promise<void> {
    const { prepared, state, emit } = this.#run;
    const group = this.#group;
    const holders = group.ranks;
    const more = prepared.counts.filter((count) => count > holders.length);
    if (more.length === 0 || state.sharedSeconds < prepared.growAfterSeconds || !(await group.grow(more))) return;
    const { plan, workers } = state.shareOut(group.ranks.length);
    await group.reshape(holders, plan, { step, scaler: state.scaler }, state.groupName);
    emit({ kind: 'grown', step, workers, group: group.kind });
  }
}
