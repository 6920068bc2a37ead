// The parts of "host:port", where an IPv6 host has brackets.
/** The host as it stands in a URL; `hostOf` of protocol/tls gives it as sockets want it. */
export const urlHostOf = (address: string): string => address.slice(0, address.lastIndexOf(':'));
export const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(':') + 1));
