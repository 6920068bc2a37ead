// The address to tell others for a server that is bound to `bound`.
import { networkInterfaces } from 'node:os';

/** The bound address itself; for "all interfaces", the first that other machines can reach. */
export function advertisedHost(bound: string): string {
  if (bound !== '0.0.0.0' && bound !== '::') return bound.includes(':') ? `[${bound}]` : bound;
  for (const addresses of Object.values(networkInterfaces())) {
    for (const { address, family, internal } of addresses ?? []) {
      if (!internal && family === 'IPv4') return address;
    }
  }
  return '127.0.0.1';
}
