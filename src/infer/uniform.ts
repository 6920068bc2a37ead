// Random numbers of draws: a function of a seed and of which draw it is, on hosts and devices alike (Philox4x32-10, as native/cpu/philox.h).

/** Which of the numbers of a seed: that of a token of a sequence of a prompt. */
export type DrawCounter = readonly [token: number, prompt: number, sequence: number];

/** The low and the high word of a safe integer. */
export function wordsOf(seed: number): readonly [low: number, high: number] {
  return [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
}

/** A number in [0, 1), with 53 bits. */
export function uniform(seed: number, counter: DrawCounter): number {
  let [key0, key1] = wordsOf(seed);
  let [c0, c1, c2, c3] = [...counter, 0] as [number, number, number, number];
  for (let round = 0; round < 10; round++) {
    const [high0, high1] = [highWord(c0, 0xd2511f53), highWord(c2, 0xcd9e8d57)];
    const [low0, low1] = [Math.imul(c0, 0xd2511f53), Math.imul(c2, 0xcd9e8d57)];
    c0 = (high1 ^ c1 ^ key0) >>> 0;
    c1 = low1 >>> 0;
    c2 = (high0 ^ c3 ^ key1) >>> 0;
    c3 = low0 >>> 0;
    key0 = (key0 + 0x9e3779b9) >>> 0;
    key1 = (key1 + 0xbb67ae85) >>> 0;
  }
  return ((c0 >>> 5) * 2 ** 26 + (c1 >>> 6)) / 2 ** 53;
}

/** Of the product of two 32-bit words. */
function highWord(a: number, b: number): number {
  const low = (a & 0xffff) * b; // below 2^48
  const high = (a >>> 16) * b;
  return Math.floor((high + Math.floor(low / 2 ** 16)) / 2 ** 16) >>> 0;
}
