// Pieces of a file to and from memory. They run on the stream of the disk; offsets and lengths are whole pages.
import { attribute, expectInputs, type OpRule, vector } from './rule.js';

const moved: Pick<OpRule, 'attributes' | 'moves'> = { attributes: ['file', 'offset'], moves: 'disk' };

/** → y u8[n], from byte `offset` of a file on. `bytes` is n; only the compiler reads it. */
export const diskRead: OpRule = {
  kind: 'disk_read',
  ...moved,
  infer(call) {
    expectInputs(call, [0]);
    return [{ dtype: 'u8', dims: [attribute(call, 'bytes')] }];
  },
};

/** x u8[n] → nothing in memory. */
export const diskWrite: OpRule = {
  kind: 'disk_write',
  ...moved,
  infer(call) {
    expectInputs(call, [1]);
    vector(call, 0, 'x', 'u8');
    return [];
  },
};
