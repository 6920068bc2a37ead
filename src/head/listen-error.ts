// A port that cannot be listened on, told to the user by the flag that sets it.
import { ConfigError } from '../common/index.js';

/** @param flag the option that sets the port, as "port" or "dashboard-port" */
export function listenError(
  flag: string,
  at: { readonly host: string; readonly port: number },
  cause: NodeJS.ErrnoException,
): ConfigError {
  const place = `${at.host}:${at.port}`;
  switch (cause.code) {
    case 'EADDRINUSE':
      return new ConfigError(
        `--${flag}`,
        'a free port',
        at.port,
        `Something else listens on ${place}. Choose another, or 0 for any free one`,
        { cause },
      );
    case 'EACCES':
      return new ConfigError(`--${flag}`, 'a port that this user may use (above 1023)', at.port, undefined, { cause });
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return new ConfigError('--host', 'an address of this machine', at.host, undefined, { cause });
    default:
      return new ConfigError(`--${flag}`, `a place to listen (${cause.message})`, place, undefined, { cause });
  }
}
