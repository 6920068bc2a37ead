// The training job of one rank: its memory on one device, and the programs of a step over it, which run one at a time.
import { ConfigError } from '../../common/index.js';
import type { NativeDevice, NativeFinding } from '../../native/index.js';
import type { CompiledPipeline, PipelineWork } from '../compile/pipeline.js';
import type { TrainingSettings } from '../compile/settings.js';
import { compileStep } from '../compile/step.js';
import type { CompiledTraining } from '../compile/training.js';
import type { ParameterSlice } from '../layout.js';
import { type GroupName, groupSizeAt } from '../mesh.js';
import { ruleOf } from '../ops/index.js';
import { hasScheduledMomentum, type OptimizerSettings } from '../optimizer.js';
import type { Strategy } from '../passes/zero.js';
import type { Plan } from '../plan/plan.js';
import type { StateKind } from '../state-moves.js';
import type { Batch } from './batch.js';
import { type Communicators, communicatorTable, expectCommunicators } from './communicators.js';
import { Evaluation } from './evaluation.js';
import { type ExchangeDifference, relativeError, runPlain, withPlainExchanges } from './exchange-check.js';
import { GatheredBuckets } from './gathered-buckets.js';
import { measureLimits } from './limits.js';
import { checkLossScale, MicroInputs } from './micro-inputs.js';
import type { ParameterStore } from './parameter-store.js';
import { PipelineRunner } from './pipeline-runner.js';
import type { StepProfile } from './profile.js';
import { Program } from './program.js';
import { ProgramTurns } from './program-turns.js';
import { expectSameJob, firstOther } from './same-job.js';
import type {
  MicroOptions,
  MicroResult,
  MicrosOptions,
  MicrosResult,
  UpdateOptions,
  UpdateResult,
} from './step-options.js';
import { plansOf, TrainingMemory } from './training-memory.js';
import { wholeParameter } from './whole-parameter.js';

/** A training job, the device that it runs on, and the groups that its rank is in. */
export interface TrainStepSettings extends TrainingSettings {
  readonly device: NativeDevice;
  /** Of the groups that the strategy's programs exchange in: those of more than one rank. They stay the caller's. Default: none. */
  readonly communicators?: Communicators;
  /** Of what is random in training: the masks of dropout, rounding by chance. Default 42. */
  readonly seed?: number;
}

/** Where the first number of a step appeared that is not finite: its micro-batch and instruction, and the words for it. */
export interface Origin extends NativeFinding {
  readonly micro: number;
}

/** The training of a model on one rank, a step at a time: micro-batches, then an update. */
export class TrainStep implements AsyncDisposable {
  readonly compiled: CompiledTraining | CompiledPipeline;
  readonly parameters: ParameterStore;
  readonly strategy: Strategy;
  readonly optimizer: OptimizerSettings;
  readonly communicators: Communicators;
  readonly #settings: TrainingSettings;
  readonly #device: NativeDevice;
  readonly #memory: TrainingMemory;
  readonly #inputs: MicroInputs;
  readonly #turns: ProgramTurns;
  readonly #clear: Program | null;
  /** Of all the model, or of the parts of a stage. */
  readonly #forwardBackward: Program | PipelineRunner;
  readonly #evaluation: Evaluation | null;
  readonly #update: Program;
  readonly #gathered: GatheredBuckets;
  #updates = 0;
  #micros = 0; // of the current step
  #isDisposed = false;

  private constructor(settings: TrainStepSettings, compiled: CompiledTraining | CompiledPipeline) {
    const { device, communicators = {}, model, rows, strategy, seed = 42 } = settings;
    this.compiled = compiled;
    this.strategy = strategy;
    this.optimizer = settings.optimizer;
    this.communicators = communicators;
    this.#settings = settings;
    this.#device = device;
    this.#memory = new TrainingMemory(device, settings, compiled);
    this.parameters = this.#memory.parameters;
    this.#gathered = new GatheredBuckets(this.parameters, communicators);
    this.#turns = new ProgramTurns({
      agree: () => expectSameJob(communicators, strategy, compiled.jobHash),
      prepare: () => this.#gathered[Symbol.dispose](), // what was gathered for readers is about to change
    });
    const { buffers } = this.#memory;
    const groups = communicatorTable(communicators);
    if (compiled.kind === 'pipeline') {
      const runner = (work: PipelineWork) => new PipelineRunner(device, work, strategy, buffers, communicators, groups);
      this.#clear = null;
      this.#forwardBackward = runner(compiled);
      this.#evaluation = compiled.evaluation && new Evaluation(runner(compiled.evaluation), this.#turns);
    } else {
      this.#clear = compiled.clear ? new Program(device, compiled.clear, buffers) : null;
      this.#forwardBackward = new Program(device, compiled.micro, buffers, groups);
      this.#evaluation =
        compiled.evaluation && new Evaluation(new Program(device, compiled.evaluation, buffers, groups), this.#turns);
    }
    this.#update = new Program(device, compiled.update, buffers, groups);
    this.#inputs = new MicroInputs({ model, strategy, rows, seed, clearsGradients: this.#clear !== null });
  }

  /** Compiles, allocates and loads. Parameters start at zero, state as the optimiser wants it. */
  static create(settings: TrainStepSettings): TrainStep {
    const { communicators = {}, strategy } = settings;
    const compiled = compileStep(settings);
    expectCommunicators(communicators, strategy, plansOf(compiled));
    return new TrainStep(settings, compiled);
  }

  /** How often update() has run: what reads the parameters in between knows by it whether they are still those. */
  get updates(): number {
    return this.#updates;
  }

  /** Goes on as behind so many updates, whose state it was given. */
  set updates(count: number) {
    this.#updates = count;
  }

  loadParameter(name: string, values: Float32Array): void {
    this.parameters.load(name, values);
  }

  /** A copy of a parameter as programs see it. Refused where this rank keeps a slice of it (ZeRO stage 3): gather it. */
  readParameter(name: string): Float32Array {
    return this.parameters.read(name);
  }

  /**
   * As readParameter(), whole whatever ranks have of it, parameters of another stage of a pipeline too: all ranks of the groups that share it
   * must ask for the same ones in the same order.
   */
  gatherParameter(name: string): Promise<Float32Array> {
    const { compiled, parameters, communicators } = this;
    return this.#turns.take(() =>
      wholeParameter(name, { compiled, parameters, gathered: this.#gathered, communicators }),
    );
  }

  /**
   * The gradient that the micro-batches since the last `isFirst` have added up, before any exchange between ranks. Refused where
   * only slices of the sums are kept, or those are offloaded (ZeRO stages 2 and 3).
   */
  readGradient(name: string): Float32Array {
    return this.#memory.readGradient(name);
  }

  /** The parts of parameters whose optimiser state this rank owns. */
  get slices(): readonly ParameterSlice[] {
    return this.#memory.slices;
  }
  /** The slices that this rank saves for all: one of those that hold the same does, of stages and of a tensor group. */
  get savedSlices(): readonly ParameterSlice[] {
    return this.#memory.savedSlices;
  }
  /** The place in its tensor group. */
  get tensorRank(): number {
    return this.#memory.tensorRank;
  }

  /** What there is to read and write of one of `slices`: the parameter, then the optimiser's state. */
  stateOf(slice: ParameterSlice): readonly StateKind[] {
    return this.#memory.stateOf(slice);
  }
  /** A copy of the state of one of `slices`. */
  readState(kind: StateKind, slice: ParameterSlice): Float32Array {
    return this.#memory.readState(kind, slice);
  }
  /** Sets the state of one of `slices`. Where every rank keeps a parameter whole, it must get the same values everywhere: load that whole. */
  writeState(kind: StateKind, slice: ParameterSlice, values: Float32Array): void {
    this.#memory.writeState(kind, slice, values);
  }

  /**
   * Forward and backward of one micro-batch. `scale` is what each labelled row counts: 1 / (labelled rows of the whole step
   * over all micro-batches and ranks) for a loss weighted by tokens. The first micro-batch of a step overwrites the
   * gradients, the others add to them. With ZeRO stages 2 and 3 this exchanges: all ranks must call it equally often.
   * The n-th micro-batch at data coordinate d holds the rows from (n * mesh.data + d) * rows on of the step, which is what masks of dropout
   * depend on: the same rows in other micro-batches or on other ranks are dropped alike.
   * In f16 all gradients are multiplied by `lossScale` on their way; `update` of the step must be given the same.
   */
  micro(batch: Batch, options: MicroOptions): Promise<MicroResult> {
    const lossScale = this.#checkedScale(options);
    return this.#turns.take(async () => {
      const program = this.#whole('micro');
      if (options.isFirst) this.#micros = 0;
      this.#writeMicro(program, batch, { ...options, lossScale }, this.#micros++);
      if (options.isFirst && this.#clear) await this.#turns.run(this.#clear);
      await this.#turns.run(program);
      return lossesOf(program, lossScale);
    });
  }

  /**
   * Forward and backward of all micro-batches of a step, as micro(). On a pipeline the only way to run them: every stage is given
   * the same batches, as many as it was compiled for, and all ranks must call it.
   */
  async micros(batches: readonly Batch[], { afterMicro, ...options }: MicrosOptions): Promise<MicrosResult> {
    const runner = this.#forwardBackward;
    const results: MicroResult[] = [];
    if (runner instanceof Program) {
      for (const [index, batch] of batches.entries()) {
        results.push(await this.micro(batch, { ...options, isFirst: index === 0 }));
        await afterMicro?.(index, results[index]!);
      }
      return { results, pipeline: null };
    }
    const { micros: count } = runner.compiled.shape;
    if (batches.length !== count) throw new ConfigError('batches', `${count} micro-batches`, batches.length);
    const lossScale = this.#checkedScale(options);
    const pipeline = await this.#turns.take(async () => {
      results.push(...batches.map((): MicroResult => ({ loss: 0, tokenLosses: new Float32Array(0) })));
      await this.#turns.agree(); // before a stage waits for another one
      return runner.run({
        prepare: (program, micro) =>
          this.#writeMicro(program, batches[micro]!, { ...options, lossScale, isFirst: micro === 0 }, micro),
        run: (program) => this.#turns.run(program),
        finish: (program, micro) => {
          if (program.plan.graph.outputs.has('loss')) results[micro] = lossesOf(program, lossScale);
        },
      });
    });
    for (const [index, result] of results.entries()) await afterMicro?.(index, result);
    return { results, pipeline };
  }

  /**
   * The sum of the losses of micro-batches, each labelled row counting `scale`, with the parameters as they are and nothing dropped; of a
   * job of `hasEvaluation`. Where ranks share the model (ZeRO stage 3, tensor, sequence, pipeline) all of them must call it with equally many
   * micro-batches; on a pipeline as many as it was compiled for, or a multiple. This rank's part, as of {@link micro}.
   */
  async evaluate(batches: readonly Batch[], scale: number): Promise<number> {
    if (!this.#evaluation) throw new ConfigError('hasEvaluation', 'true for a job that is evaluated', false);
    const options = { scale, isFirst: true, step: 0, lossScale: 1 };
    return this.#evaluation.run(batches, (program, batch) => this.#writeMicro(program, batch, options, 0));
  }

  /**
   * Exchanges gradients, clips, steps the optimiser and gathers the parameters that are kept whole. `step` counts from 1. All ranks must call it.
   * `gradientNorm` is the norm over all parameters before clipping. Where it is not finite nothing was changed, on any rank.
   */
  update(options: UpdateOptions): Promise<UpdateResult> {
    const lossScale = this.#checkedScale(options);
    return this.#turns.take(async () => {
      this.#update.setScalar('lr', options.lr);
      this.#update.setScalar('step', options.step);
      this.#update.setScalar('lossScale', lossScale);
      if (hasScheduledMomentum(this.optimizer)) {
        if (options.beta1 === undefined) throw new ConfigError('beta1', 'the momentum of the step', options.beta1);
        this.#update.setScalar('beta1', options.beta1);
      }
      this.#inputs.writeUpdate(this.#update, options.step);
      await this.#turns.run(this.#update);
      this.#updates++;
      const gradientNorm = this.#update.floats('gradientNorm')[0]!;
      return { gradientNorm, isSkipped: !Number.isFinite(gradientNorm) };
    });
  }

  /**
   * Runs the batch last given once more and says where the first number that is not finite appears: instruction, op, model path.
   * Null if none does, or where a micro-batch takes several ranks (pipelines, ZeRO stage 2), which no rank can run alone: {@link trace}. The
   * gradients are of no use after.
   */
  diagnose(): Promise<string | null> {
    return this.#turns.take(async () => {
      const program = this.#forwardBackward;
      if (!(program instanceof Program) || isShared(program.plan)) return null;
      return (await program.check())?.message ?? null;
    });
  }

  /**
   * Where a micro-batch takes several ranks: runs those of a step once more, behind an update that changed nothing, and says where the first
   * number that is not finite appeared on this rank. All ranks must call it, since they wait for each other as ever. Null if none did, for
   * pipelines, and where {@link diagnose} serves.
   */
  trace(batches: readonly Batch[], options: Omit<MicroOptions, 'isFirst'>): Promise<Origin | null> {
    const lossScale = this.#checkedScale(options);
    return this.#turns.take(async () => {
      const program = this.#forwardBackward;
      if (!(program instanceof Program) || !isShared(program.plan)) return null;
      let origin: Origin | null = null;
      for (const [micro, batch] of batches.entries()) {
        this.#writeMicro(program, batch, { ...options, lossScale, isFirst: micro === 0 }, micro);
        if (micro === 0 && this.#clear) await this.#turns.run(this.#clear);
        const finding = await program.check();
        if (finding) origin ??= { micro, ...finding };
      }
      return origin;
    });
  }

  /**
   * A micro-batch with the exchanges of this job and once more with plain ones (ZeRO++, arXiv:2306.10209); null where they are plain,
   * and where gradients or parameters are offloaded. All ranks must call it. The gradients are of no use after.
   */
  async compareExchanges(batch: Batch, options: Omit<MicroOptions, 'isFirst'>): Promise<ExchangeDifference | null> {
    const strategy = withPlainExchanges(this.strategy);
    const { compiled } = this;
    if (!strategy || compiled.kind === 'pipeline' || compiled.moved.has('gradients') || compiled.layout.offDevice)
      return null;
    const first = { ...options, isFirst: true };
    const { loss } = await this.micro(batch, first);
    return this.#turns.take(async () => {
      const gradients = this.#memory.buffers.floats('gradients', 0, compiled.layout.sliceElements).slice();
      const lossScale = this.#checkedScale(options);
      const plain = await runPlain({
        settings: { ...this.#settings, strategy },
        device: this.#device,
        store: this.parameters,
        communicators: this.communicators,
        write: (program) => this.#writeMicro(program, batch, { ...first, lossScale }, 0),
      });
      return { loss, plainLoss: plain.loss / lossScale, gradientError: relativeError(gradients, plain.gradients) };
    });
  }

  /** Whether all ranks of a group have the same bytes. All of them must call it. */
  isSameInGroup(name: GroupName, own: Buffer): Promise<boolean> {
    const communicator = this.communicators[name];
    return this.#turns.take(async () => !communicator || (await firstOther(communicator, own)) === null);
  }

  /** From here on every run takes the time of its instructions. Results are the same. */
  startProfile(): void {
    const { mesh, rank } = this.strategy;
    this.#turns.startProfile((group) => groupSizeAt(mesh, rank, group), this.#device.isHost);
  }

  /** Ends what `startProfile` began `steps` steps ago, and measures what the machine can do with `threads` threads. */
  endProfile(steps: number, threads: number): Promise<StepProfile> {
    return this.#turns.endProfile(steps, () => measureLimits(this.#device, threads));
  }

  /** Seconds of each instruction of the micro-batch program, on the batch last given. */
  profileMicro(): Promise<Float64Array> {
    return this.#turns.take(() => this.#whole('profileMicro').profile());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    await this.#turns.ended();
    this.#clear?.dispose();
    if (this.#forwardBackward instanceof Program) this.#forwardBackward.dispose();
    else this.#forwardBackward[Symbol.dispose]();
    this.#evaluation?.[Symbol.dispose]();
    this.#update.dispose();
    this.#gathered[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
  }

  /** The program of a rank that runs the whole model. */
  #whole(method: string): Program {
    if (this.#forwardBackward instanceof Program) return this.#forwardBackward;
    throw new ConfigError(method, 'micros() on a pipeline', method);
  }

  #writeMicro(program: Program, batch: Batch, options: MicroOptions, micro: number): void {
    const { scale, isFirst, step = this.#updates, lossScale = 1 } = options;
    this.#inputs.write(program, batch, { scale, isFirst, step, lossScale, micro });
  }

  #checkedScale({ lossScale = 1 }: { readonly lossScale?: number }): number {
    checkLossScale(lossScale, this.compiled.layout.dtype);
    return lossScale;
  }
}

function lossesOf(program: Program, lossScale: number): MicroResult {
  return { loss: program.floats('loss')[0]! / lossScale, tokenLosses: program.floats('tokenLosses').slice() };
}

/** Whether no rank can run a program alone. */
function isShared({ graph }: Plan): boolean {
  return graph.ops.some(({ kind }) => ruleOf(kind).isCollective);
}
