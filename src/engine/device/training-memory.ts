// What one rank's training job holds, wherever it lies: parameters, gradients, the optimiser's state, the files that they are
// offloaded to. Reads and writes it for those who save, load and look; programs run over `buffers`.
import { ConfigError } from '../../common/index.js';
import type { NativeDevice } from '../../native/index.js';
import { type CompiledPipeline, plansOfPart } from '../compile/pipeline.js';
import type { TrainingSettings } from '../compile/settings.js';
import type { CompiledTraining } from '../compile/training.js';
import { type ParameterPlace, type ParameterSlice, placesOf } from '../layout.js';
import { groupOf } from '../mesh.js';
import type { FileSettings } from '../offload.js';
import { initialState, type OptimizerSettings, stateBuffers } from '../optimizer.js';
import { type Strategy, tuningOf, zeroGroup } from '../passes/zero.js';
import type { Plan } from '../plan/plan.js';
import { isFirstHolder } from '../shard.js';
import { ownedSlices, type StateKind } from '../state-moves.js';
import { DeviceBuffers } from './buffers.js';
import { OffloadFile } from './offload-file.js';
import { ParameterStore } from './parameter-store.js';
import { StateMemory } from './state-memory.js';

export class TrainingMemory implements Disposable {
  readonly parameters: ParameterStore;
  readonly buffers: DeviceBuffers;
  /** The parts of parameters whose optimiser state this rank owns. */
  readonly slices: readonly ParameterSlice[];
  readonly #compiled: CompiledTraining | CompiledPipeline;
  readonly #strategy: Strategy;
  readonly #optimizer: OptimizerSettings;
  readonly #state: StateMemory;
  /** Of state and masters, and of gradients. */
  readonly #file: OffloadFile | null;
  readonly #gradientFile: OffloadFile | null;
  readonly #places: ReadonlyMap<string, ParameterPlace>;

  /** Allocates. Parameters start at zero, state as the optimiser wants it. `device` stays the caller's. */
  constructor(device: NativeDevice, settings: TrainingSettings, compiled: CompiledTraining | CompiledPipeline) {
    const { strategy, optimizer } = settings;
    const { layout, records, moved } = compiled;
    this.#compiled = compiled;
    this.#strategy = strategy;
    this.#optimizer = optimizer;
    this.#places = placesOf(layout);
    this.slices = ownedSlices({ layout, strategy });
    this.#file = records.bytes > 0 ? new OffloadFile(fileOf(settings), records) : null;
    const { file: gradients = null } = moved.get('gradients') ?? {};
    this.#gradientFile = gradients && new OffloadFile(fileOf(settings), gradients.contents);
    const parameterFile = tuningOf(strategy).offloadParam?.file ?? null;
    this.parameters = new ParameterStore(device, layout, zeroGroup(strategy).index, this.tensorRank, parameterFile);
    this.buffers = new DeviceBuffers(device);
    this.parameters.lendTo(this.buffers);
    if (this.#file) this.buffers.borrowFile('state', this.#file.file);
    if (this.#gradientFile) this.buffers.borrowFile('gradients', this.#gradientFile.file);
    this.buffers.reserve(plansOf(compiled));
    this.#state = new StateMemory(this.buffers, layout, this.slices, moved, this.#file);
    if (layout.hasMasters) this.parameters.keepMasters(this.#state);
    const first = initialState(optimizer);
    if (first !== 0) this.#fillState(first);
  }

  #fillState(value: number): void {
    for (const slice of this.slices)
      for (const kind of this.stateOf(slice))
        if (kind !== 'parameter') this.#state.write(kind, slice, new Float32Array(slice.length).fill(value));
  }

  /** The place in its tensor group. */
  get tensorRank(): number {
    return groupOf(this.#strategy.mesh, this.#strategy.rank, 'tensor').index;
  }

  /** The slices that this rank saves for all: one of those that hold the same does, of stages and of a tensor group. */
  get savedSlices(): readonly ParameterSlice[] {
    const compiled = this.#compiled;
    const { tensorRank } = this;
    const isOther = (name: string) =>
      compiled.kind === 'pipeline' && !compiled.tied.isCounted && compiled.tied.names.has(name);
    return this.slices.filter(({ name }) => {
      const cut = this.parameters.cutOf(name);
      return !isOther(name) && (cut ? isFirstHolder(cut, tensorRank) : tensorRank === 0);
    });
  }

  /** What there is to read and write of one of `slices`: the parameter, then the optimiser's state. */
  stateOf(slice: ParameterSlice): readonly StateKind[] {
    return ['parameter', ...stateBuffers(this.#optimizer, slice.bucket)];
  }

  /** A copy of the state of one of `slices`. */
  readState(kind: StateKind, slice: ParameterSlice): Float32Array {
    if (kind !== 'parameter') return this.#state.read(kind, slice);
    if (this.#compiled.layout.hasMasters) return this.#state.read('master', slice);
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
   * The gradient that the micro-batches since the last `isFirst` have added up, before any exchange between ranks.
   * Refused where gradients are exchanged in the micro-batch and only slices of their sums are kept, or those are offloaded (ZeRO stages 2 and 3).
   */
  readGradient(name: string): Float32Array {
    const compiled = this.#compiled;
    const place = this.#places.get(name);
    if (!place || place.offset >= compiled.layout.elements) {
      throw new ConfigError(name, 'the name of a trained parameter of the model', name);
    }
    if ((compiled.kind === 'whole' && compiled.clear) || compiled.moved.has('gradients'))
      throw new ConfigError('zeroStage', '0 or 1, which keep whole gradients', this.#strategy.zeroStage);
    return this.buffers.readFloats('gradients', place.offset, place.length);
  }

  [Symbol.dispose](): void {
    this.buffers.dispose();
    this.#file?.[Symbol.dispose]();
    this.#gradientFile?.[Symbol.dispose]();
    this.parameters[Symbol.dispose]();
  }
}

/** All plans of a step, each once. */
export function plansOf(compiled: CompiledTraining | CompiledPipeline): readonly Plan[] {
  const { update } = compiled;
  if (compiled.kind === 'whole') return [compiled.micro, update, ...(compiled.evaluation ? [compiled.evaluation] : [])];
  const works = [compiled, compiled.evaluation].filter((work) => work !== null);
  return [...works.flatMap(({ parts }) => parts.flatMap(plansOfPart)), update];
}

function fileOf({ offload }: TrainingSettings): FileSettings {
  const file = offload?.optimizer?.file;
  if (file) return file;
  throw new ConfigError('offload.optimizer.file', 'where the file of an offload to "nvme" lies', undefined);
}
