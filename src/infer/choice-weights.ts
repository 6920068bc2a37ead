// What tokens weigh in a draw: whole numbers, so that sums have no order. The steps are those of choose_token (native/cpu, native/cuda), bit by bit.

// 2^f for |f| <= 1/2 is the sum of POWER_TERMS[i] f^i: power_term of native/core/ops/choose_token.h.
const POWER_TERMS = [
  1.0,
  Math.LN2,
  0.24022650695910072,
  0.05550410866482158,
  0.009618129107628477,
  0.0013333558146428443,
  0.0001540353039338161,
  1.5252733804059841e-5,
  1.321548679014431e-6,
  1.01780860092397e-7,
  7.054911620801123e-9,
  4.4455382718708116e-10,
  2.5678435993488206e-11,
  1.3691488853904128e-12,
];

const DEGREE = POWER_TERMS.length - 1;

/** 2^(i - 1) at i. */
const POWERS_OF_TWO = new Float64Array(64);
POWERS_OF_TWO[0] = 0.5;
for (let i = 1; i < POWERS_OF_TWO.length; i++) POWERS_OF_TWO[i] = 2 * POWERS_OF_TWO[i - 1]!;

/**
 * The weight of each of `logits`: 2^b e^(logit - top), rounded, where `top` is the largest and b = 52 less the bits of their number, so
 * that sums are exact.
 */
export function weightOf(logits: Float32Array, top: number): (logit: number) => number {
  const bits = 20 + Math.clz32(logits.length);
  return (logit) => {
    const t = (logit - top) * Math.LOG2E;
    if (!(t >= -(bits + 1))) return 0;
    const n = Math.floor(t + 0.5);
    const f = t - n;
    let power = POWER_TERMS[DEGREE]!;
    for (let i = DEGREE - 1; i >= 0; i--) power = power * f + POWER_TERMS[i]!;
    return Math.floor(power * POWERS_OF_TWO[bits + n + 1]! + 0.5);
  };
}
