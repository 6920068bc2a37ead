// One rank of a training run, as an actor: device, groups, engine. It does what the driver asks, in order, and decides nothing.
import { runtimeContext, usesTls } from '../client/index.js';
import { ConfigError } from '../common/index.js';
import type { Minibatch } from '../data/index.js';
import {
  type Communicators,
  compileStep,
  createDevice,
  type DeviceOptions,
  type Incoming,
  type MicroResult,
  neededPieces,
  type Outgoing,
  StateExchange,
  type StatePiece,
  TrainStep,
  zeroGroup,
} from '../engine/index.js';
import { HybridEngine } from '../infer/index.js';
import { initialise, initialiseAdapter, isAdapted } from '../models/index.js';
import { findCuda, type NativeDevice, native } from '../native/index.js';
import { expectNear } from './check-exchanges.js';
import { type CheckpointIndex, readSlices, writeSlices } from './checkpoint.js';
import { openStart } from './chosen-model.js';
import { exportAdapter, exportModel } from './export-model.js';
import type { Position } from './hand-over.js';
import { JoinedGroups } from './joined-groups.js';
import type { JointPlan } from './plan-joints.js';
import type { LateNews, RankPlace, RankReady, StepOrder, StepReport } from './rank-messages.js';
import { type RankPlan, settingsOf } from './rank-plan.js';
import { nextScaler, type ScalerState, startScaler } from './scaler.js';
import { learningRate, momentum } from './schedule.js';
import { trainedModel } from './trained-model.js';

export class TrainRank {
  #groups = new JoinedGroups();
  #communicators: Communicators = {};
  #device: NativeDevice | null = null;
  #isOnGpu = false;
  #train: TrainStep | null = null;
  #plan: RankPlan | null = null;
  #hybrid: HybridEngine | null = null;
  #scaler: ScalerState = startScaler(null);
  /** Whether the exchanges of ZeRO++, if any, were compared with plain ones. */
  #isChecked = false;
  /** Lines of what the device chose, that were reported. */
  readonly #reportedChoices = new Set<string>();

  /** Opens what it computes on, before it joins groups. Throws CudaMissingError where that is a GPU and there is none. */
  open(device: DeviceOptions): void {
    this.#device ??= createDevice(device);
    this.#isOnGpu = device.kind === 'cuda';
  }

  /** Where this rank is, how others reach it, and how much memory its machine or container still has; and its GPU, if it is on one. */
  async describe(): Promise<RankPlace> {
    const { nodeId, host } = runtimeContext();
    const gpu = this.#isOnGpu ? (findCuda(native()).devices[0] ?? null) : null;
    return { nodeId, host, usesTls: await usesTls(), availableBytes: process.availableMemory(), gpu };
  }

  /** Opens the socket of a coming TCP group on `host`. */
  listen(id: string, host: string): { readonly port: number } {
    return { port: this.#groups.listen(id, host) };
  }

  /** Joins its groups and waits for all. Why its GPU cannot exchange by itself; null if it does, or if there is none. */
  async join(joints: readonly JointPlan[], rank: number, lateMsMax: number): Promise<string | null> {
    this.#communicators = await this.#groups.join(joints, rank, lateMsMax);
    return this.#isOnGpu ? await this.#groups.joinDevice(this.#opened(), rank) : null;
  }

  /** As {@link JoinedGroups.news}: throws when a peer has ended or stands still, also while this rank waits for nobody. */
  async *watch(): AsyncGenerator<LateNews, void, undefined> {
    yield* this.#groups.news();
  }

  /** Compiles, allocates and sets first values. */
  async build(plan: RankPlan): Promise<RankReady> {
    const { seed, precision } = plan;
    const settings = settingsOf(plan);
    const model = trainedModel(plan);
    const device = this.#opened();
    this.#train = TrainStep.create({ ...settings, seed, device, communicators: this.#communicators });
    this.#plan = plan;
    this.#isChecked = false;
    this.#scaler = startScaler(precision.lossScaling);
    if (plan.start.kind === 'seed') initialise(model, plan.start.seed, this.#train.parameters);
    else {
      await using checkpoint = await openStart(plan.start.path, plan.config, plan.start.freshHeads);
      await checkpoint.loadInto(this.#train.parameters);
    }
    if (isAdapted(model)) initialiseAdapter(model, seed, this.#train.parameters);
    const { jobHash, parameterCount, memory } = this.#train.compiled;
    return { jobHash, parameterCount, estimate: memory };
  }

  /** One optimizer step over this rank's micro-batches. Every rank must be given the same order. */
  async step(order: StepOrder, micros: readonly Minibatch[]): Promise<StepReport> {
    const { train, device, plan } = this.#built();
    if (order.profile?.isFirst) train.startProfile();
    const start = performance.now();
    const scale = 1 / order.labelCount;
    const lossScale = this.#scaler.lossScale?.scale ?? 1;
    if (!this.#isChecked) {
      const difference = await train.compareExchanges(micros[0]!, { scale, step: order.step, lossScale });
      if (difference) expectNear(difference, plan.rank);
      this.#isChecked = true;
    }
    let fault: StepReport['fault'] = null;
    const afterMicro = async (micro: number, { loss, tokenLosses }: MicroResult): Promise<void> => {
      if (fault || Number.isFinite(loss)) return;
      const token = tokenLosses.findIndex((value) => !Number.isFinite(value));
      fault = { micro, token, cause: await train.diagnose() };
    };
    const { results, pipeline } = await train.micros(micros, { scale, step: order.step, lossScale, afterMicro });
    const loss = results.reduce((sum, result) => sum + result.loss, 0);
    // A skipped step counts neither for the schedule nor for the optimizer's corrections, as in DeepSpeed.
    const updates = order.step - this.#scaler.skippedSteps;
    const rate = learningRate(plan.schedule, updates);
    const beta1 = momentum(plan.schedule, updates) ?? undefined;
    const { gradientNorm, isSkipped } = await train.update({ lr: rate, beta1, step: updates + 1, lossScale });
    this.#scaler = nextScaler(this.#scaler, isSkipped, plan.precision.lossScaling);
    // All ranks have the same norm, so that they agree on looking for its origin. In f16 scales that are too large are no fault.
    const isTraced = isSkipped && plan.precision.lossScaling === null;
    const origin = isTraced ? await train.trace(micros, { scale, step: order.step }) : null;
    const seconds = (performance.now() - start) / 1000;
    const { allocatedBytes: deviceBytes, hostBytes } = device;
    const profile = order.profile?.isLast ? await train.endProfile(order.profile.steps, plan.threads) : null;
    return {
      loss,
      gradientNorm,
      fault,
      origin,
      learningRate: rate,
      isSkipped,
      scaler: this.#scaler,
      seconds,
      pipeline,
      profile,
      deviceBytes,
      hostBytes,
      choices: this.#newChoices(device),
    };
  }

  #newChoices(device: NativeDevice): readonly string[] {
    const found = device.choices().filter((line) => !this.#reportedChoices.has(line));
    for (const line of found) this.#reportedChoices.add(line);
    return found;
  }

  /**
   * This rank's part of the loss of micro-batches that have `labelCount` labels over all ranks and calls, with the weights as they are now.
   * Every rank must be asked, with as many.
   */
  evaluate(labelCount: number, micros: readonly Minibatch[]): Promise<number> {
    return this.#built().train.evaluate(micros, 1 / labelCount);
  }

  /**
   * Continues prompts of token ids, each by its likeliest tokens up to one of `end`, with the weights as they are now. Every rank must be
   * asked, with prompts or without: weights that are in parts are gathered.
   */
  async generate(
    prompts: readonly (readonly number[])[],
    { maxNewTokens, end }: { readonly maxNewTokens: number; readonly end: readonly number[] },
  ): Promise<readonly (readonly number[])[]> {
    const { train, plan } = this.#built();
    const model = trainedModel(plan);
    this.#hybrid ??= new HybridEngine(train, { ...plan.hybrid, model });
    const eosTokenIds = [...new Set([...model.eosTokenIds, ...end])];
    const said = await this.#hybrid.generate(prompts, { maxNewTokens, eosTokenIds, doSample: false });
    return said.map(({ ids }) => ids);
  }

  /** Writes this rank's slices into the folder of a coming checkpoint. */
  async save(path: string): Promise<string | null> {
    const { train, plan } = this.#built();
    const isOwner =
      plan.zeroStage > 0 || zeroGroup({ zeroStage: plan.zeroStage, mesh: plan.mesh, rank: plan.rank }).index === 0;
    return isOwner ? writeSlices(path, train, plan.rank) : null;
  }

  /** Goes on from a checkpoint, written by any number of ranks. */
  async load(path: string): Promise<CheckpointIndex> {
    const index = await readSlices(path, this.#built().train);
    this.#scaler = index.scaler;
    return index;
  }

  /** What this rank has of the job's state. */
  held(): readonly StatePiece[] {
    return new StateExchange(this.#built().train).held;
  }

  /** What a rank would need of the state of a job of this plan. Builds nothing. */
  needs(plan: RankPlan): readonly StatePiece[] {
    const settings = settingsOf(plan);
    return neededPieces({ ...settings, layout: compileStep(settings).layout });
  }

  /** A message to another rank. */
  pack(outgoing: Outgoing): Float32Array {
    return new StateExchange(this.#built().train).pack(outgoing);
  }

  /** Goes on at `position`, from messages that have all that this rank needs. */
  unpack({ step, scaler }: Position, incoming: readonly Incoming[], ...values: readonly Float32Array[]): void {
    const messages = incoming.map((each, index) => ({ incoming: each, values: values[index]! }));
    new StateExchange(this.#built().train).unpack(messages, step);
    this.#scaler = scaler;
  }

  /** Writes the model as a Hugging Face folder (weights and configuration), an adapter added in. Every rank must be asked. */
  exportModel(path: string): Promise<void> {
    return exportModel(path, this.#built());
  }

  /** Writes the adapter that is trained as a folder that peft opens. Every rank must be asked. */
  exportAdapter(path: string): Promise<void> {
    return exportAdapter(path, this.#built());
  }

  /** Frees device and groups, so that others may be joined and another engine built. Safe to repeat. */
  async close(): Promise<void> {
    this.#hybrid?.[Symbol.dispose]();
    await this.#train?.[Symbol.asyncDispose]();
    this.#groups[Symbol.dispose]();
    this.#groups = new JoinedGroups();
    this.#device?.dispose();
    this.#hybrid = null;
    this.#train = null;
    this.#communicators = {};
    this.#device = null;
  }

  #opened(): NativeDevice {
    if (!this.#device) throw new ConfigError('rank', 'open() first', 'a rank without a device');
    return this.#device;
  }

  #built(): { readonly train: TrainStep; readonly device: NativeDevice; readonly plan: RankPlan } {
    if (!this.#train || !this.#device || !this.#plan)
      throw new ConfigError('rank', 'build() first', 'a rank not built');
    return { train: this.#train, device: this.#device, plan: this.#plan };
  }
}
