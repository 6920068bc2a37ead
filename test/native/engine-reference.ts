// The ops of the catalogue written as plainly as possible, in double precision: what kernels are compared with.
export type Matrix = readonly number[]; // row-major

export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** Reproducible numbers in [-1, 1), exactly representable in float32. */
export function random(seed: number): (count: number) => number[] {
  let state = seed * 2654435761 + 1;
  return (count) =>
    range(count).map(() => {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      return (state >> 8) / 2 ** 23;
    });
}

/** C[m,n] = A[m,k] B[k,n], elements by function. */
export function product(
  m: number,
  n: number,
  k: number,
  a: (i: number, p: number) => number,
  b: (p: number, j: number) => number,
): number[] {
  return range(m * n).map((at) => {
    let sum = 0;
    for (let p = 0; p < k; p++) sum += a(Math.floor(at / n), p) * b(p, at % n);
    return sum;
  });
}

/** erf by its series near 0 and its continued fraction beyond. */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 3) {
    let term = a;
    let sum = a;
    for (let n = 1; n < 80; n++) {
      term *= -(a * a) / n;
      sum += term / (2 * n + 1);
    }
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / (Math.sqrt(Math.PI) * (a + fraction)));
}

/** Activations by their numbers in the catalogue. */
export const ACTIVATIONS: readonly ((x: number) => number)[] = [
  (x) => x,
  (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  (x) => Math.max(0, x),
  (x) => x / (1 + Math.exp(-x)),
];

/** The derivative by central differences. */
export const slope = (f: (x: number) => number, x: number): number => (f(x + 1e-5) - f(x - 1e-5)) / 2e-5;

export interface AttentionCase {
  readonly rows: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly scale: number;
  readonly causal: boolean;
  readonly window: number;
  readonly starts: readonly number[];
  readonly ends: readonly number[];
}

/** Softmax attention over q [N,H,C], k and v [N,G,C], with the gradient for dO when it is given. */
export function attention(c: AttentionCase, q: Matrix, k: Matrix, v: Matrix, dO?: Matrix) {
  const { rows, heads, kvHeads, headDim: C } = c;
  const o = new Array<number>(rows * heads * C).fill(0);
  const lse = new Array<number>(rows * heads).fill(0);
  const dq = o.slice();
  const dk = new Array<number>(rows * kvHeads * C).fill(0);
  const dv = dk.slice();
  for (const i of range(rows)) {
    for (const h of range(heads)) {
      const g = Math.floor(h / (heads / kvHeads));
      const qAt = (i * heads + h) * C;
      const kAt = (j: number) => (j * kvHeads + g) * C;
      const keys = range(rows).filter(
        (j) => j >= c.starts[i]! && j < c.ends[i]! && (!c.causal || j <= i) && (c.window === 0 || j > i - c.window),
      );
      const scores = keys.map((j) => c.scale * range(C).reduce((sum, d) => sum + q[qAt + d]! * k[kAt(j) + d]!, 0));
      const top = Math.max(...scores);
      const total = scores.reduce((sum, s) => sum + Math.exp(s - top), 0);
      lse[i * heads + h] = top + Math.log(total);
      const p = scores.map((s) => Math.exp(s - top) / total);
      for (const [n, j] of keys.entries()) for (const d of range(C)) o[qAt + d]! += p[n]! * v[kAt(j) + d]!;
      if (!dO) continue;
      const delta = range(C).reduce((sum, d) => sum + dO[qAt + d]! * o[qAt + d]!, 0);
      for (const [n, j] of keys.entries()) {
        const dp = range(C).reduce((sum, d) => sum + dO[qAt + d]! * v[kAt(j) + d]!, 0);
        const ds = p[n]! * (dp - delta) * c.scale;
        for (const d of range(C)) {
          dv[kAt(j) + d]! += p[n]! * dO[qAt + d]!;
          dk[kAt(j) + d]! += ds * q[qAt + d]!;
          dq[qAt + d]! += ds * k[kAt(j) + d]!;
        }
      }
    }
  }
  return { o, lse, dq, dk, dv };
}

/** Philox4x32-10 of one counter (Salmon et al., SC'11), in words of 32 bits. */
export function philox(counter: readonly number[], key: readonly number[]): number[] {
  let [a, b, c, d] = counter.map(BigInt) as [bigint, bigint, bigint, bigint];
  let [k0, k1] = key.map((word) => BigInt(word >>> 0)) as [bigint, bigint];
  const word = (value: bigint) => BigInt.asUintN(32, value);
  for (let round = 0; round < 10; round++) {
    const [first, second] = [a * 0xd2511f53n, c * 0xcd9e8d57n];
    [a, b, c, d] = [(second >> 32n) ^ b ^ k0, word(second), (first >> 32n) ^ d ^ k1, word(first)];
    k0 = word(k0 + 0x9e3779b9n);
    k1 = word(k1 + 0xbb67ae85n);
  }
  return [a, b, c, d].map(Number);
}

/** Which of `columns` elements of a row dropout keeps (native/cpu/philox.h). */
export function keptColumns(
  seed: readonly number[],
  step: number,
  row: number,
  stream: number,
  threshold: number,
  columns: number,
): boolean[] {
  return range(columns).map((column) => {
    const [block, value] = [Math.floor(column / 128), Math.floor((column % 128) / 16)];
    const words = philox([16 * block + (column % 16), row, stream, step], seed);
    const half = value % 2 === 0 ? words[value >> 1]! & 0xffff : words[value >> 1]! >>> 16;
    return half >= threshold;
  });
}
