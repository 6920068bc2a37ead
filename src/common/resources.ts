// Arithmetic of resources ("CPU", "GPU", "memory" in bytes, custom names), exact in steps of 1/10,000 as in Ray.

/** Amounts by name; an absent name is 0. Treat as a value: every function returns a new one. */
export type Resources = Readonly<Record<string, number>>;

const STEPS_PER_UNIT = 10_000;
/** `amount` in whole steps, so that sums stay exact. */
export const roundAmount = (amount: number): number => Math.round(amount * STEPS_PER_UNIT) / STEPS_PER_UNIT;

/** Whether devices can be had so: part of one, or whole ones. Half of a second one is refused, as in Ray. */
export const isDeviceAmount = (amount: number): boolean => amount < 1 || Number.isInteger(amount);

export function addResources(a: Resources, b: Resources): Resources {
  const sum: Record<string, number> = { ...a };
  for (const name in b) sum[name] = roundAmount((sum[name] ?? 0) + b[name]!);
  return sum;
}

/** `a - b`; may go below zero, which callers exclude with {@link fits} first. */
export function subtractResources(a: Resources, b: Resources): Resources {
  const rest: Record<string, number> = { ...a };
  for (const name in b) rest[name] = roundAmount((rest[name] ?? 0) - b[name]!);
  return rest;
}

/** Whether `demand` is at most `available` in every name. */
export const fits = (demand: Resources, available: Resources): boolean =>
  Object.entries(demand).every(([name, amount]) => roundAmount(amount) <= roundAmount(available[name] ?? 0));

/** Whether `demand` is at most what `used` leaves of `total`, in every name. */
export function fitsBeside(demand: Resources, total: Resources, used: Resources): boolean {
  for (const name in demand) {
    if (roundAmount(demand[name]!) > roundAmount((total[name] ?? 0) - (used[name] ?? 0))) return false;
  }
  return true;
}

/** Use of the scarcest resource of `total`, from 0 to 1, once `demand` is there beside what is `used`. */
export function useBeside(demand: Resources, total: Resources, used: Resources): number {
  let most = 0;
  for (const name in used) most = Math.max(most, shareOf((used[name] ?? 0) + (demand[name] ?? 0), total[name] ?? 0));
  for (const name in demand) if (!(name in used)) most = Math.max(most, shareOf(demand[name] ?? 0, total[name] ?? 0));
  return Math.min(1, most);
}
const shareOf = (amount: number, whole: number): number => (whole > 0 ? roundAmount(amount) / whole : 0);

/** The names in which `demand` is more than `available`, for error messages. */
export const shortfall = (demand: Resources, available: Resources): readonly string[] =>
  Object.keys(demand).filter((name) => roundAmount(demand[name] ?? 0) > roundAmount(available[name] ?? 0));

/** `{"CPU": 2, "memory": 1073741824}` as "2 CPU, 1 GiB memory"; `none` where all are 0. */
export const formatResources = (resources: Resources, none = 'nothing'): string => {
  const parts = Object.entries(resources).filter(([, amount]) => amount !== 0);
  return parts.length === 0
    ? none
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
