// Numbers as people read them.

export function bytes(amount: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = amount;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : Number(value.toPrecision(3))} ${units[unit]}`;
}

export function seconds(amount: number): string {
  const whole = Math.max(0, Math.round(amount));
  if (whole < 60) return `${whole}s`;
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}m ${whole % 60}s` : `${Math.floor(minutes / 60)}h ${minutes % 60}m`;
}

export const resource = (name: string, amount: number): string =>
  name === 'memory' ? bytes(amount) : String(Number(amount.toFixed(4)));

export const count = (amount: number): string => Math.round(amount).toLocaleString('en');
