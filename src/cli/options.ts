// Values of flags, checked as soon as they are read.
import { ConfigError, type Resources } from '../common/index.js';

export function portOption(flag: string): (text: string) => number {
  return (text) => {
    const port = Number(text);
    if (!/^\d+$/.test(text) || port > 65_535) throw new ConfigError(flag, 'a port, 0 to 65535 (0: any free one)', text);
    return port;
  };
}

export function amountOption(flag: string): (text: string) => number {
  return (text) => {
    const amount = Number(text);
    if (text.trim() === '' || !Number.isFinite(amount) || amount < 0)
      throw new ConfigError(flag, 'a number of 0 or more', text);
    return amount;
  };
}

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
};

/** "512M", "2GiB", "1073741824". */
export function bytesOption(flag: string): (text: string) => number {
  return (text) => {
    const match = /^(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?$/i.exec(text.trim());
    if (!match) throw new ConfigError(flag, 'a size such as 512M or 2GiB', text);
    return Math.floor(Number(match[1]) * UNITS[match[2]!.toUpperCase()]!);
  };
}

/** A JSON object of names to numbers. */
export function resourcesOption(flag: string): (text: string) => Resources {
  return (text) => {
    const value = jsonObject(flag, text, 'such as \'{"disk": 2}\'');
    for (const [name, amount] of Object.entries(value)) {
      if (typeof amount !== 'number' || !Number.isFinite(amount) || amount < 0) {
        throw new ConfigError(`${flag}.${name}`, 'a number of 0 or more', amount);
      }
      if (['CPU', 'GPU', 'memory'].includes(name)) {
        throw new ConfigError(`${flag}.${name}`, 'names of your own', name, 'CPU and GPU have their own flags');
      }
    }
    return value as Resources;
  };
}

/** "a=1,b=2" or a JSON object of strings. */
export function labelsOption(flag: string): (text: string) => Record<string, string> {
  return (text) => {
    const entries: [string, unknown][] = text.trim().startsWith('{')
      ? Object.entries(jsonObject(flag, text, 'of strings'))
      : text
          .split(',')
          .map((pair) => [pair.slice(0, pair.indexOf('=')).trim(), pair.slice(pair.indexOf('=') + 1).trim()]);
    for (const [key, value] of entries) {
      if (!/^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$/.test(key) || typeof value !== 'string') {
        throw new ConfigError(flag, 'labels such as zone=east,disk=ssd', text);
      }
    }
    return Object.fromEntries(entries) as Record<string, string>;
  };
}

export function jsonObject(flag: string, text: string, what: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ConfigError(flag, `a JSON object ${what}`, text, undefined, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ConfigError(flag, `a JSON object ${what}`, value);
  }
  return value as Record<string, unknown>;
}

/** "host:port". */
export function addressOption(flag: string): (text: string) => string {
  return (text) => {
    const match = /^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):(\d+)$/.exec(text);
    const port = Number(match?.[2]);
    if (!match || port < 1 || port > 65_535) throw new ConfigError(flag, 'an address such as 10.0.0.1:6379', text);
    return text;
  };
}
