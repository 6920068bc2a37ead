// What runs on the cluster: exported from a module, so that workers can load it too.

export class Counter {
  #total = 0;
  add(amount: number): number {
    this.#total += amount;
    return this.#total;
  }
}

export const square = (x: number): number => x * x;
