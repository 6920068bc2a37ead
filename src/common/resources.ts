// Arithmetic of resources ("CPU", "GPU", "memory" in bytes, custom names), exact in steps of 1/10,000 as in Ray.

/** Amounts by name; an absent name is 0. Treat as a value: every function returns a new one. */
export type Resources = Readonly<Record<string, number>>;

const STEPS_PER_UNIT = 10_000;
const round = (amount: number): number => Math.round(amount * STEPS_PER_UNIT) / STEPS_PER_UNIT;

export function addResources(a: Resources, b: Resources): Resources {
  const sum: Record<string, number> = { ...a };
  for (const [name, amount] of Object.entries(b)) sum[name] = round((sum[name] ?? 0) + amount);
  return sum;
}

/** `a - b`; may go below zero, which callers exclude with {@link fits} first. */
export function subtractResources(a: Resources, b: Resources): Resources {
  const rest: Record<string, number> = { ...a };
  for (const [name, amount] of Object.entries(b)) rest[name] = round((rest[name] ?? 0) - amount);
  return rest;
}

/** Whether `demand` is at most `available` in every name. */
export const fits = (demand: Resources, available: Resources): boolean =>
  Object.entries(demand).every(([name, amount]) => round(amount) <= round(available[name] ?? 0));

/** The names in which `demand` is more than `available`, for error messages. */
export const shortfall = (demand: Resources, available: Resources): readonly string[] =>
  Object.keys(demand).filter((name) => round(demand[name] ?? 0) > round(available[name] ?? 0));

/** `{"CPU": 2, "memory": 1073741824}` as "2 CPU, 1 GiB memory". */
export const formatResources = (resources: Resources): string => {
  const parts = Object.entries(resources).filter(([, amount]) => amount !== 0);
  return parts.length === 0
    ? 'nothing'
    : parts
        .map(([name, amount]) => (name === 'memory' ? `${formatBytes(amount)} memory` : `${amount} ${name}`))
        .join(', ');
};

/** Bytes in binary units, three significant digits: 1536 → "1.5 KiB". */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let amount = bytes;
  let unit = 0;
  while (Math.abs(amount) >= 1024 && unit < units.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? amount : Number(amount.toPrecision(3))} ${units[unit]}`;
}
