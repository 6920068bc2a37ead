// The device's side of decoding: programs for few rows and for many over one cache, and the logits that they leave.
import { ConfigError } from '../common/index.js';
import {
  CACHE_BLOCK_TOKENS,
  CHOICE_WORDS,
  type Communicators,
  communicatorTable,
  compileDecode,
  DeviceBuffers,
  type Layout,
  logitColumns,
  type ParameterStore,
  type Plan,
  Program,
  placeOf,
  type TensorShare,
} from '../engine/index.js';
import type { Model } from '../models/index.js';
import { type ChoiceRequest, FORBIDDEN_MAX, isPenalised, REQUEST_ROW, writeRequest } from './device-choice.js';
import type { Lane } from './lane.js';

export interface DecoderSettings {
  readonly model: Model;
  readonly store: ParameterStore;
  readonly slots: number;
  readonly positions: number;
  readonly prefillRows: number;
  readonly cacheBytes: number | null;
  /** Of ranks that decode together, in step: each has its part of the weights in `store`, and of the cache. Default: alone. */
  readonly share?: TensorShare;
  /** That of the share's group. */
  readonly communicators?: Communicators;
}

type DecodeShape = Omit<DecoderSettings, 'store' | 'communicators'>;

/** One token to append. */
export interface Row {
  readonly id: number;
  readonly position: number;
  readonly lane: Lane;
  /** Wants the logits behind this token. */
  readonly isLast: boolean;
  /** Of the last token: choices by its logits, one for each lane that goes on from here. */
  readonly requests: readonly ChoiceRequest[];
}

/** A token that the device chose. */
export interface Chosen {
  readonly id: number;
  /** Its logit, before anything was held back or scaled. */
  readonly logit: number;
}

/** What is known of the token behind a row. */
export interface Logits {
  /** A copy of the logits, brought from the device: until the next run. */
  readonly read: () => Float32Array;
  /** The first of the largest logits. */
  readonly likeliest: number;
  /** Of a lane that requested it. */
  readonly chosen: (lane: Lane) => Chosen;
  /** log p(j) = logits[j] - top - logSum. */
  readonly top: number;
  readonly logSum: number;
}

/** A program and the memory of its inputs and outputs. The inputs of all programs lie on the same bytes. */
interface DecodeProgram {
  readonly program: Program;
  readonly ids: Int32Array;
  readonly positions: Int32Array;
  readonly slots: Int32Array;
  readonly table: Int32Array;
  readonly index: Int32Array;
  readonly likeliest: Int32Array;
  readonly top: Float32Array;
  readonly logSum: Float32Array;
  readonly settings: Int32Array;
  readonly forbidden: Int32Array;
  readonly chosen: Int32Array;
  readonly chosenLogit: Float32Array;
}

export class Decoder implements Disposable {
  readonly blockCount: number;
  readonly #settings: DecoderSettings;
  readonly #buffers: DeviceBuffers;
  /** By rows per run, ascending; made when first needed, but for the largest two. */
  readonly #programs = new Map<number, DecodeProgram>();
  readonly #sizes: readonly number[];
  /** What the device has of a slot's tokens: those of this lane, up to a count. */
  readonly #remembered: { readonly lane: Lane; readonly count: number }[] = [];
  readonly #caches: readonly { readonly buffer: string; readonly offsetBytes: number; readonly blockBytes: number }[];

  constructor(settings: DecoderSettings) {
    const { store, slots, prefillRows } = settings;
    this.#settings = settings;
    this.blockCount = blockCount(settings, store.layout);
    const sizes = new Set([prefillRows, slots]);
    for (let rows = 1; rows < slots; rows *= 2) sizes.add(rows);
    this.#sizes = [...sizes].sort((a, b) => a - b);
    this.#buffers = new DeviceBuffers(store.device);
    store.lendTo(this.#buffers);
    const plans = startPlans(settings, this.blockCount, store.layout);
    this.#buffers.reserve(plans);
    for (const plan of plans) {
      const rows = plan === plans[0] ? prefillRows : slots;
      if (!this.#programs.has(rows)) this.#programs.set(rows, this.#load(plan));
    }
    this.#caches = [...plans[0]!.graph.inputs.keys()]
      .filter((name) => name.startsWith('cache.'))
      .map((name) => {
        const { buffer, offsetBytes, bytes } = placeOf(plans[0]!, name);
        return { buffer, offsetBytes, blockBytes: bytes / this.blockCount };
      });
  }

  /** Appends the rows, in as many runs as they need; calls `decided` for every last row, in order, while its logits are valid. */
  async run(rows: readonly Row[], decided: (row: Row, logits: Logits) => void): Promise<void> {
    const most = this.#sizes.at(-1)!;
    for (let start = 0; start < rows.length; start += most) {
      await this.#runOnce(rows.slice(start, start + most), decided);
    }
  }

  readonly copyBlock = (from: number, to: number): void => {
    for (const { buffer, offsetBytes, blockBytes } of this.#caches)
      this.#buffers.move(buffer, offsetBytes + from * blockBytes, offsetBytes + to * blockBytes, blockBytes);
  };

  [Symbol.dispose](): void {
    for (const { program } of this.#programs.values()) program.dispose();
    this.#buffers.dispose();
  }

  async #runOnce(rows: readonly Row[], decided: (row: Row, logits: Logits) => void): Promise<void> {
    const { slots, model } = this.#settings;
    const used = this.#program(this.#sizes.find((count) => count >= rows.length)!);
    const { program, table } = used;
    const ids = used.ids.fill(0);
    const positions = used.positions.fill(0);
    // Rows of padding have the slot behind all others, whose table stays empty: block 0.
    const slotOf = used.slots.fill(slots);
    const index = used.index.fill(0);
    table.fill(0);
    const slotBlocks = table.length / (slots + 1);
    const last: Row[] = [];
    for (const [i, row] of rows.entries()) {
      ids[i] = row.id;
      positions[i] = row.position;
      slotOf[i] = row.lane.slot;
      if (i === 0 || rows[i - 1]!.lane !== row.lane) table.set(row.lane.blocks, row.lane.slot * slotBlocks);
      if (row.isLast) index[last.push(row) - 1] = i;
    }
    for (let slot = 0; slot <= slots; slot++) used.settings[slot * CHOICE_WORDS + REQUEST_ROW] = -1;
    for (const [i, row] of last.entries()) for (const request of row.requests) this.#ask(used, request, i);
    await program.run();
    const columns = logitColumns(model, this.#settings.share?.ranks ?? 1);
    for (const [i, row] of last.entries()) {
      decided(row, {
        read: () => this.#buffers.readFloats('logits', i * columns, model.vocabularySize),
        likeliest: used.likeliest[i]!,
        chosen: ({ slot }) => ({ id: used.chosen[slot]!, logit: used.chosenLogit[slot]! }),
        top: used.top[i]!,
        logSum: used.logSum[i]!,
      });
    }
  }

  /** Has a token chosen by row `row` of the logits. What came before is on the device but for what others have not left there. */
  #ask({ settings, forbidden }: DecodeProgram, request: ChoiceRequest, row: number): void {
    const { lane, sampling } = request;
    writeRequest(request, row, settings, forbidden);
    if (!isPenalised(sampling)) return;
    const count = lane.tokens.length;
    const known = this.#remembered[lane.slot];
    if (known?.lane !== lane || known.count !== count - 1)
      this.#buffers.write('history', lane.slot * this.#settings.positions, Int32Array.from(lane.tokens));
    this.#remembered[lane.slot] = { lane, count };
  }

  #program(rows: number): DecodeProgram {
    let program = this.#programs.get(rows);
    if (!program) {
      program = this.#load(this.#compile(rows));
      this.#programs.set(rows, program);
    }
    return program;
  }

  #load(plan: Plan): DecodeProgram {
    const { store, communicators = {} } = this.#settings;
    const program = new Program(store.device, plan, this.#buffers, communicatorTable(communicators));
    return {
      program,
      ids: program.integers('ids'),
      positions: program.integers('positions'),
      slots: program.integers('slots'),
      table: program.integers('blocks'),
      index: program.integers('index'),
      likeliest: program.integers('likeliest'),
      top: program.floats('top'),
      logSum: program.floats('logSum'),
      settings: program.integers('settings'),
      forbidden: program.integers('forbidden'),
      chosen: program.integers('chosen'),
      chosenLogit: program.floats('chosenLogit'),
    };
  }

  #compile(rows: number): Plan {
    return decodePlan(this.#settings, rows, this.blockCount, this.#settings.store.layout);
  }
}

/** Bytes that a decoder allocates: for keys and values, and for everything else that its programs touch but the weights. */
export function decodeMemory(
  settings: DecodeShape,
  layout: Layout,
): { readonly cacheBytes: number; readonly programBytes: number } {
  const plans = startPlans(settings, blockCount(settings, layout), layout);
  const sizes = new Map<string, number>();
  for (const { buffers } of plans)
    for (const { name, bytes } of buffers) sizes.set(name, Math.max(sizes.get(name) ?? 0, bytes));
  const cacheBytes = sizes.get('cache') ?? 0;
  sizes.delete('cache');
  sizes.delete('parameters');
  return { cacheBytes, programBytes: [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0) };
}

/** The largest two programs, which all others find room in: of the prefill, and of all slots. */
function startPlans(settings: DecodeShape, blocks: number, layout: Layout): readonly [Plan, Plan] {
  const { prefillRows, slots } = settings;
  return [decodePlan(settings, prefillRows, blocks, layout), decodePlan(settings, slots, blocks, layout)];
}

function decodePlan(settings: DecodeShape, rows: number, blockCount: number, layout: Layout): Plan {
  const { model, slots, positions, share } = settings;
  const shape = {
    slots: slots + 1,
    slotBlocks: slotBlocksOf(positions),
    blockCount,
    positions,
    forbiddenIds: FORBIDDEN_MAX,
    ...(share && { share }),
  };
  return compileDecode({ model, rows, logitRows: Math.min(rows, slots), ...shape }, layout);
}

function slotBlocksOf(positions: number): number {
  return Math.ceil(positions / CACHE_BLOCK_TOKENS);
}

/** Blocks that fit in the memory given; by default every slot can be full at once. */
function blockCount({ model, slots, positions, cacheBytes, share }: DecodeShape, layout: Layout): number {
  const sequence = slotBlocksOf(positions);
  // One for padding; one more per slot, for a block that is shared until it is written to.
  if (cacheBytes === null) return 1 + slots * (sequence + 1);
  const shape = {
    slots: 2,
    slotBlocks: sequence,
    blockCount: 1,
    positions,
    forbiddenIds: FORBIDDEN_MAX,
    ...(share && { share }),
  };
  const one = compileDecode({ model, rows: 1, logitRows: 1, ...shape }, layout);
  const blockBytes = one.buffers.find(({ name }) => name === 'cache')!.bytes;
  const count = Math.floor(cacheBytes / blockBytes);
  if (count < sequence + 1) {
    const reason = `A block of ${CACHE_BLOCK_TOKENS} tokens has ${blockBytes} bytes; a sequence of ${positions} tokens needs ${sequence}, padding one`;
    throw new ConfigError('cacheBytes', `at least ${(sequence + 1) * blockBytes}`, cacheBytes, reason);
  }
  return count;
}
