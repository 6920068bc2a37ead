// A class and a function that workers run: exported, so that they can be found by module and name.
export class Counter {
  count = 0;

  add(amount: number): number {
    this.count += amount;
    return this.count;
  }
}

export const square = (x: number): number => x * x;
