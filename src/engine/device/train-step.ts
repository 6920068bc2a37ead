// The training job of one rank: parameters, gradients, optimiser state and the two programs over them, on one device.
import { ConfigError, EngineError } from '../../common/index.js';
import type { NativeDevice } from '../../native/index.js';
import { RANDOM } from '../builder.js';
import type { CompiledPipeline, Owner } from '../compile/pipeline.js';
import { compileStep } from '../compile/step.js';
import type { CompiledTraining, TrainingSettings } from '../compile/training.js';
import { elementCount } from '../graph.js';
import { type ParameterPlace, type ParameterSlice, placesOf } from '../layout.js';
import { coordinatesOf, type GroupName, groupOf } from '../mesh.js';
import type { AnyModel } from '../model.js';
import type { FileSettings } from '../offload.js';
import { ruleOf } from '../ops/index.js';
import { initialState, type OptimizerSettings, stateBuffers } from '../optimizer.js';
import { type Strategy, tuningOf, zeroGroup } from '../passes/zero.js';
import type { Plan } from '../plan/plan.js';
import { type Cut, isFirstHolder, putShard } from '../shard.js';
import { ownedSlices, type StateKind } from '../state-moves.js';
import { type Batch, writeBatch } from './batch.js';
import { DeviceBuffers } from './buffers.js';
import { type Communicators, communicatorTable, expectCommunicators } from './communicators.js';
import { type ExchangeDifference, relativeError, runPlain, withPlainExchanges } from './exchange-check.js';
import { GatheredBuckets } from './gathered-buckets.js';
import { measureLimits } from './limits.js';
import { OffloadFile } from './offload-file.js';
import { ParameterStore } from './parameter-store.js';
import { PipelineRunner, type PipelineTimes } from './pipeline-runner.js';
import { type StepProfile, StepProfiler } from './profile.js';
import { Program } from './program.js';
import { expectSameJob, firstOther } from './same-job.js';
import { StateMemory } from './state-memory.js';

export interface TrainStepSettings extends TrainingSettings {
  readonly device: NativeDevice;
  /** Of the groups that the strategy's programs exchange in: those of more than one rank. They stay the caller's. Default: none. */
  readonly communicators?: Communicators;
  /** Of what is random in training: the masks of dropout, rounding by chance. Default 42. */
  readonly seed?: number;
}

export interface MicroOptions {
  /** What each labelled row counts. */
  readonly scale: number;
  /** Starts a step: its gradients overwrite those of the step before. */
  readonly isFirst: boolean;
  /** For what is random: the number of the step, from 0. Default: the number of updates so far. */
  readonly step?: number;
  /** For f16 alone; default 1. */
  readonly lossScale?: number;
}

export interface MicroResult {
  /** scale * sum of the losses of the labelled rows of this micro-batch. */
  readonly loss: number;
  /** Loss of each row, without weights; cross-entropy is 0 where the label is -100. */
  readonly tokenLosses: Float32Array;
}

export interface MicrosOptions extends Omit<MicroOptions, 'isFirst'> {
  /** Awaited behind each micro-batch, before the next is given to the programs; on a pipeline behind all of them. */
  readonly afterMicro?: (micro: number, result: MicroResult) => Promise<void>;
}

export interface MicrosResult {
  /** Of each micro-batch; of a pipeline on its last stage, which alone sees losses (elsewhere 0 and none). */
  readonly results: readonly MicroResult[];
  /** Null without a pipeline. */
  readonly pipeline: PipelineTimes | null;
}

export interface UpdateOptions {
  readonly lr: number;
  /** Counts from 1, over the steps that were not skipped. */
  readonly step: number;
  readonly lossScale?: number;
}

export interface UpdateResult {
  readonly gradientNorm: number;
  /** The gradients were not finite: parameters and state are as before. */
  readonly isSkipped: boolean;
}

export class TrainStep implements AsyncDisposable {
  readonly compiled: CompiledTraining | CompiledPipeline;
  readonly parameters: ParameterStore;
  /** The parts of parameters whose optimiser state this rank owns. */
  readonly slices: readonly ParameterSlice[];
  readonly strategy: Strategy;
  readonly optimizer: OptimizerSettings;
  readonly communicators: Communicators;
  readonly #settings: TrainingSettings;
  readonly #model: AnyModel;
  readonly #device: NativeDevice;
  readonly #rows: number;
  readonly #seed: number;
  #updates = 0;
  #micros = 0; // of the current step
  readonly #buffers: DeviceBuffers;
  readonly #state: StateMemory;
  /** Of state and masters, and of gradients. */
  readonly #file: OffloadFile | null;
  readonly #gradientFile: OffloadFile | null;
  readonly #clear: Program | null;
  /** Of all the model, or of the parts of a stage. */
  readonly #forwardBackward: Program | PipelineRunner;
  readonly #update: Program;
  readonly #places: ReadonlyMap<string, ParameterPlace>;
  readonly #gathered: GatheredBuckets;
  #agreement: Promise<void> | null = null;
  #profiler: StepProfiler | null = null;
  #running: Promise<unknown> = Promise.resolve();
  #isDisposed = false;

  private constructor(settings: TrainStepSettings, compiled: CompiledTraining | CompiledPipeline) {
    const { device, communicators = {}, strategy } = settings;
    this.compiled = compiled;
    this.#settings = settings;
    this.#model = settings.model;
    this.strategy = strategy;
    this.#device = device;
    this.#rows = settings.rows;
    this.#seed = settings.seed ?? 42;
    this.optimizer = settings.optimizer;
    this.#places = placesOf(compiled.layout);
    this.slices = ownedSlices({ layout: compiled.layout, strategy });
    const { records, layout } = compiled;
    this.#file = records.bytes > 0 ? new OffloadFile(fileOf(settings), records) : null;
    const { file: gradients = null } = compiled.moved.get('gradients') ?? {};
    this.#gradientFile = gradients && new OffloadFile(fileOf(settings), gradients.contents);
    const parameterFile = tuningOf(strategy).offloadParam?.file ?? null;
    this.parameters = new ParameterStore(device, layout, zeroGroup(strategy).index, this.tensorRank, parameterFile);
    this.#buffers = new DeviceBuffers(device);
    this.parameters.lendTo(this.#buffers);
    if (this.#file) this.#buffers.borrowFile('state', this.#file.file);
    if (this.#gradientFile) this.#buffers.borrowFile('gradients', this.#gradientFile.file);
    this.#buffers.reserve(plansOf(compiled));
    this.#state = new StateMemory(this.#buffers, compiled.layout, this.slices, compiled.moved, this.#file);
    if (compiled.layout.hasMasters) this.parameters.keepMasters(this.#state);
    this.#gathered = new GatheredBuckets(this.parameters, communicators);
    this.communicators = communicators;
    const groups = communicatorTable(communicators);
    if (compiled.kind === 'pipeline') {
      this.#clear = null;
      this.#forwardBackward = new PipelineRunner(device, compiled, strategy, this.#buffers, communicators, groups);
    } else {
      this.#clear = compiled.clear ? new Program(device, compiled.clear, this.#buffers) : null;
      this.#forwardBackward = new Program(device, compiled.micro, this.#buffers, groups);
    }
    this.#update = new Program(device, compiled.update, this.#buffers, groups);
    const first = initialState(settings.optimizer);
    if (first === 0) return;
    for (const slice of this.slices)
      for (const kind of this.stateOf(slice))
        if (kind !== 'parameter') this.#state.write(kind, slice, new Float32Array(slice.length).fill(first));
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
    return this.#inTurn(async () => {
      if (this.compiled.kind === 'pipeline') {
        const owner = this.compiled.owners.get(name);
        if (!owner) throw new ConfigError(name, 'the name of a parameter of the model', name);
        return this.#united(await this.#ofStage(name, owner), owner.cut);
      }
      const part = this.parameters.partOf(name);
      const held = part?.isAll ? this.parameters.read(name) : await this.#gathered.read(name);
      return this.#united(held, this.parameters.cutOf(name));
    });
  }

  /**
   * The gradient that the micro-batches since the last `isFirst` have added up, before any exchange between ranks.
   * Refused where gradients are exchanged in the micro-batch and only slices of their sums are kept, or those are offloaded (ZeRO stages 2 and 3).
   */
  readGradient(name: string): Float32Array {
    const place = this.#places.get(name);
    if (!place || place.offset >= this.compiled.layout.elements) {
      throw new ConfigError(name, 'the name of a trained parameter of the model', name);
    }
    if (this.#clear || this.compiled.moved.has('gradients'))
      throw new ConfigError('zeroStage', '0 or 1, which keep whole gradients', this.strategy.zeroStage);
    return this.#buffers.readFloats('gradients', place.offset, place.length);
  }

  /** The slices that this rank saves for all: one of those that hold the same does, of stages and of a tensor group. */
  get savedSlices(): readonly ParameterSlice[] {
    const { compiled, tensorRank } = this;
    const isOther = (name: string) =>
      compiled.kind === 'pipeline' && !compiled.tied.isCounted && compiled.tied.names.has(name);
    return this.slices.filter(({ name }) => {
      const cut = this.parameters.cutOf(name);
      return !isOther(name) && (cut ? isFirstHolder(cut, tensorRank) : tensorRank === 0);
    });
  }

  /** The place in its tensor group. */
  get tensorRank(): number {
    return groupOf(this.strategy.mesh, this.strategy.rank, 'tensor').index;
  }

  /** What there is to read and write of one of `slices`: the parameter, then the optimiser's state. */
  stateOf(slice: ParameterSlice): readonly StateKind[] {
    return ['parameter', ...stateBuffers(this.optimizer, slice.bucket)];
  }

  /** A copy of the state of one of `slices`. */
  readState(kind: StateKind, slice: ParameterSlice): Float32Array {
    const { layout } = this.compiled;
    if (kind !== 'parameter') return this.#state.read(kind, slice);
    if (layout.hasMasters) return this.#state.read('master', slice);
    return this.parameters.readSlice(slice);
  }

  /** Sets the state of one of `slices`. Where every rank keeps a parameter whole, it must get the same values everywhere: load that whole. */
  writeState(kind: StateKind, slice: ParameterSlice, values: Float32Array): void {
    if (values.length !== slice.length)
      throw new ConfigError(`${kind} of ${slice.name}`, `${slice.length} values`, values.length);
    if (kind === 'parameter') this.parameters.loadSlice(slice, values);
    else this.#state.write(kind, slice, values);
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
    const lossScale = this.#lossScale(options);
    return this.#inTurn(async () => {
      const program = this.#whole('micro');
      if (options.isFirst) this.#micros = 0;
      this.#writeMicro(program, batch, options, this.#micros++, lossScale);
      if (options.isFirst && this.#clear) await this.#run(this.#clear);
      await this.#run(program);
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
    const lossScale = this.#lossScale(options);
    const pipeline = await this.#inTurn(async () => {
      results.push(...batches.map((): MicroResult => ({ loss: 0, tokenLosses: new Float32Array(0) })));
      await this.#agree(); // before a stage waits for another one
      return runner.run({
        prepare: (program, micro) =>
          this.#writeMicro(program, batches[micro]!, { ...options, isFirst: micro === 0 }, micro, lossScale),
        run: (program) => this.#run(program),
        finish: (program, micro) => {
          if (program.plan.graph.outputs.has('loss')) results[micro] = lossesOf(program, lossScale);
        },
      });
    });
    for (const [index, result] of results.entries()) await afterMicro?.(index, result);
    return { results, pipeline };
  }

  /**
   * Exchanges gradients, clips, steps the optimiser and gathers the parameters that are kept whole. `step` counts from 1. All ranks must call it.
   * `gradientNorm` is the norm over all parameters before clipping. Where it is not finite nothing was changed, on any rank.
   */
  update(options: UpdateOptions): Promise<UpdateResult> {
    const lossScale = this.#lossScale(options);
    return this.#inTurn(async () => {
      this.#update.setScalar('lr', options.lr);
      this.#update.setScalar('step', options.step);
      this.#update.setScalar('lossScale', lossScale);
      if (this.#update.plan.graph.inputs.has(RANDOM))
        this.#update.integers(RANDOM).set([...this.#seedWords(), options.step]);
      await this.#run(this.#update);
      this.#updates++;
      const gradientNorm = this.#update.floats('gradientNorm')[0]!;
      return { gradientNorm, isSkipped: !Number.isFinite(gradientNorm) };
    });
  }

  /**
   * Runs the batch last given once more and says where the first number that is not finite appears: instruction, op, model path.
   * Null if none does, or where a micro-batch takes several ranks (pipelines, ZeRO stage 2), which no rank can run alone. The gradients are of no use after.
   */
  diagnose(): Promise<string | null> {
    return this.#inTurn(async () => {
      const program = this.#forwardBackward;
      if (!(program instanceof Program) || isShared(program.plan)) return null;
      try {
        await program.check();
        return null;
      } catch (error) {
        if (error instanceof EngineError) return error.detail;
        throw error;
      }
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
    return this.#inTurn(async () => {
      const gradients = this.#buffers.floats('gradients', 0, compiled.layout.sliceElements).slice();
      const lossScale = this.#lossScale(options);
      const plain = await runPlain({
        settings: { ...this.#settings, strategy },
        device: this.#device,
        store: this.parameters,
        communicators: this.communicators,
        write: (program) => this.#writeMicro(program, batch, first, 0, lossScale),
      });
      return { loss, plainLoss: plain.loss / lossScale, gradientError: relativeError(gradients, plain.gradients) };
    });
  }

  /** Whether all ranks of a group have the same bytes. All of them must call it. */
  isSameInGroup(name: GroupName, own: Buffer): Promise<boolean> {
    const communicator = this.communicators[name];
    return this.#inTurn(async () => !communicator || (await firstOther(communicator, own)) === null);
  }

  /** From here on every run takes the time of its instructions. Results are the same. */
  startProfile(): void {
    this.#profiler = new StepProfiler();
  }

  /** Ends what `startProfile` began `steps` steps ago, and measures what the machine can do with `threads` threads. */
  endProfile(steps: number, threads: number): Promise<StepProfile> {
    const profiler = this.#profiler;
    if (!profiler) return Promise.reject(new ConfigError('endProfile', 'startProfile() first', 'no profile'));
    return this.#inTurn(async () => {
      this.#profiler = null;
      return profiler.summary(steps, await measureLimits(this.#device, threads));
    });
  }

  /** Seconds of each instruction of the micro-batch program, on the batch last given. */
  profileMicro(): Promise<Float64Array> {
    return this.#inTurn(() => this.#whole('profileMicro').profile());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    await Promise.allSettled([this.#running]);
    this.#clear?.dispose();
    if (this.#forwardBackward instanceof Program) this.#forwardBackward.dispose();
    else this.#forwardBackward[Symbol.dispose]();
    this.#update.dispose();
    this.#gathered[Symbol.dispose]();
    this.#buffers.dispose();
    this.#file?.[Symbol.dispose]();
    this.#gradientFile?.[Symbol.dispose]();
    this.parameters[Symbol.dispose]();
  }

  /** Checks, once, that all ranks have compiled the same job. */
  #agree(): Promise<void> {
    this.#agreement ??= expectSameJob(this.communicators, this.strategy, this.compiled.jobHash);
    return this.#agreement;
  }

  async #run(program: Program): Promise<void> {
    await this.#agree();
    this.#gathered[Symbol.dispose](); // what was gathered for readers is about to change
    if (this.#profiler) this.#profiler.add(program.plan, await program.profile());
    else await program.run();
  }

  /** A parameter that the stages of a pipeline hand each other. */
  async #ofStage(name: string, { stage, length }: Owner): Promise<Float32Array> {
    const { pipeline } = this.communicators;
    const values = pipeline!.rank === stage ? this.parameters.read(name) : new Float32Array(length);
    await pipeline!.broadcast(values, stage);
    return values;
  }

  /** A parameter of which the ranks of the tensor group hold parts. */
  async #united(held: Float32Array, cut: Cut | null): Promise<Float32Array> {
    const { tensor } = this.communicators;
    if (!cut || cut.parts === 1 || !tensor) return held;
    const parts = new Float32Array(cut.ranks * held.length);
    parts.set(held, tensor.rank * held.length);
    await tensor.allGather(parts);
    const whole = new Float32Array(elementCount(cut.dims));
    for (let rank = 0; rank < cut.ranks; rank++)
      putShard(whole, parts.subarray(rank * held.length, (rank + 1) * held.length), cut, rank);
    return whole;
  }

  /** The program of a rank that runs the whole model. */
  #whole(method: string): Program {
    if (this.#forwardBackward instanceof Program) return this.#forwardBackward;
    throw new ConfigError(method, 'micros() on a pipeline', method);
  }

  /** Everything that the `micro`-th micro-batch of a step has from outside. */
  #writeMicro(program: Program, batch: Batch, options: MicroOptions, micro: number, lossScale: number): void {
    const { scale, isFirst, step = this.#updates } = options;
    if (!Number.isFinite(scale))
      throw new ConfigError('scale', 'a finite number (1 / labelled rows: is every label masked?)', scale);
    const { size, index } = groupOf(this.strategy.mesh, this.strategy.rank, 'sequence');
    writeBatch(program, batch, this.#model, { ranks: size, rank: index });
    program.setScalar('scale', scale * lossScale);
    // Where slices are kept, the sum over micro-batches is theirs: each micro-batch starts its own gradients anew.
    program.setScalar('beta', isFirst || this.#clear ? 0 : 1);
    if (!program.plan.graph.inputs.has(RANDOM)) return;
    const { mesh, rank } = this.strategy;
    const firstRow = (micro * mesh.data + coordinatesOf(mesh, rank).data) * this.#rows;
    program.integers(RANDOM).set([...this.#seedWords(), step, firstRow]);
  }

  /** Low and high 32 bits: a typed array keeps the low bits of what it is given. */
  #seedWords(): readonly [number, number] {
    const seed = BigInt.asUintN(64, BigInt(this.#seed));
    return [Number(seed & 0xffffffffn), Number(seed >> 32n)];
  }

  #lossScale({ lossScale = 1 }: { readonly lossScale?: number }): number {
    const { dtype } = this.compiled.layout;
    if (!(lossScale > 0) || lossScale === Number.POSITIVE_INFINITY)
      throw new ConfigError('lossScale', 'a positive number', lossScale);
    if (lossScale !== 1 && dtype !== 'f16') throw new ConfigError('lossScale', `1 for a job in ${dtype}`, lossScale);
    return lossScale;
  }

  /** Runs `work` after what is running: a device runs one program at a time. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#running.then(work, work);
    this.#running = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }
}

/** All plans of a step, each once. */
function plansOf(compiled: CompiledTraining | CompiledPipeline): readonly Plan[] {
  if (compiled.kind === 'whole') return [compiled.micro, compiled.update];
  const parts = compiled.parts.flatMap(({ forward, backward }) => (backward ? [forward, backward] : [forward]));
  return [...parts, compiled.update];
}

function lossesOf(program: Program, lossScale: number): MicroResult {
  return { loss: program.floats('loss')[0]! / lossScale, tokenLosses: program.floats('tokenLosses').slice() };
}

function fileOf({ offload }: TrainingSettings): FileSettings {
  const file = offload?.optimizer?.file;
  if (file) return file;
  throw new ConfigError('offload.optimizer.file', 'where the file of an offload to "nvme" lies', undefined);
}

/** Whether no rank can run a program alone. */
function isShared({ graph }: Plan): boolean {
  return graph.ops.some(({ kind }) => ruleOf(kind).isCollective);
}
