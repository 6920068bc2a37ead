// The choice of the next token of sequences from their logits.
import { expectInputs, expectType, f32, matrix, type OpRule, operand } from './rule.js';

/** Words of what is asked for a sequence: ChoiceSettings of native/core/ops/choose_token.h. */
export const CHOICE_WORDS = 20;

/** x[N,V], history i32[S,P], settings i32[S,20], forbidden i32[S,F] → history (the same bytes), id i32[S], logit[S]. */
export const chooseToken: OpRule = {
  kind: 'choose_token',
  attributes: [],
  updates: [[0, 1]],
  infer(call) {
    expectInputs(call, [4]);
    matrix(call, 0, 'x');
    const [slots, positions] = matrix(call, 1, 'history', 'i32');
    expectType(call, 'settings', operand(call, 2, 'settings'), [slots, CHOICE_WORDS], 'i32');
    const [, most] = matrix(call, 3, 'forbidden', 'i32');
    expectType(call, 'forbidden', operand(call, 3, 'forbidden'), [slots, most], 'i32');
    return [{ dtype: 'i32', dims: [slots, positions] }, { dtype: 'i32', dims: [slots] }, f32(slots)];
  },
};
