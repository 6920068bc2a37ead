// Runs packed rows through a saved model: what every evaluation has in common.
import { IGNORED_LABEL, type Minibatch, packEpoch } from '../data/index.js';
import { Forward, type ForwardResult, layoutOf, ParameterStore } from '../engine/index.js';
import { Checkpoint, type Model, storedType } from '../models/index.js';
import { native } from '../native/index.js';

/** Lends the model in the folder `path` to `use`, with its weights on a device of so many threads, in the type they are saved in. */
export async function withModel<T>(
  path: string,
  threads: number,
  use: (model: Model, store: ParameterStore) => Promise<T>,
): Promise<T> {
  const device = native().createDevice({ threads, isa: null, pin: false });
  try {
    await using checkpoint = await Checkpoint.open(path);
    const { model } = checkpoint;
    using store = new ParameterStore(device, layoutOf(model, storedType(model)));
    await checkpoint.loadInto(store);
    return await use(model, store);
  } finally {
    device.dispose();
  }
}

const ROWS_PER_RUN = 4;

/** Packs sequences of these lengths into rows, lays a few out at a time, and gives each batch with what the model makes of it. */
export async function* forwardRows(
  model: Model,
  store: ParameterStore,
  lengths: Int32Array,
  tokensPerRow: number,
  layOut: (rows: readonly (readonly number[])[]) => Minibatch,
  options: { readonly hasLogits?: boolean } = {},
): AsyncGenerator<{ readonly batch: Minibatch; readonly result: ForwardResult }> {
  const { sequences, rowStarts } = packEpoch(lengths, tokensPerRow, 0, 0);
  const rowCount = rowStarts.length - 1;
  using forward = new Forward({ model, rows: ROWS_PER_RUN * tokensPerRow, ...options }, store);
  for (let from = 0; from < rowCount; from += ROWS_PER_RUN) {
    const rows = Array.from({ length: ROWS_PER_RUN }, (_unused, index) =>
      from + index < rowCount
        ? Array.from(sequences.subarray(rowStarts[from + index], rowStarts[from + index + 1]))
        : [],
    );
    const batch = layOut(rows);
    yield { batch, result: await forward.run(batch) };
  }
}

/** The sum of the losses of the labelled rows, in double: the program's own sum is float32. */
export function lossOfLabels({ labels }: Minibatch, { tokenLosses }: ForwardResult): number {
  return labels.reduce((sum, label, row) => (label === IGNORED_LABEL ? sum : sum + tokenLosses[row]!), 0);
}
