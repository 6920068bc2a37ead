// What the tests of runtime environments run: code that says what its worker found and did.
let setUps = 0;

export const countsSetUps = async (): Promise<void> => {
  await Promise.resolve();
  setUps += 1;
  process.env.SET_UP_WITH = process.env.MODE ?? 'nothing';
};
export function cannotSetUp(): never {
  throw new RangeError('no such device');
}
export const looks = (): {
  mode: string | undefined;
  base: string | undefined;
  setUps: number;
  with: string | undefined;
} => ({
  mode: process.env.MODE,
  base: process.env.BASE,
  setUps,
  with: process.env.SET_UP_WITH,
});
export class Looker {
  readonly #found = looks();
  found(): ReturnType<typeof looks> {
    return this.#found;
  }
  gpus(): string | undefined {
    return visibleGpus();
  }
}
export const visibleGpus = (): string | undefined => process.env.CUDA_VISIBLE_DEVICES;
