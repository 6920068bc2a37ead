// What `raylite start` was told, as the processes that it starts are told it: their resources, their token, their certificates.
import { ConfigError, DRAIN_SECONDS, type NodeBoot, type Resources } from '../common/index.js';
import { offeredResources, readToken } from '../launch/index.js';

export interface StartOptions {
  readonly head?: true;
  readonly address?: string;
  readonly port?: number;
  readonly host?: string;
  readonly dashboardHost?: string;
  readonly dashboardPort?: number;
  readonly nodeHost?: string;
  readonly numCpus?: number;
  readonly numGpus?: number;
  readonly resources?: Resources;
  readonly labels?: Record<string, string>;
  readonly objectStoreMemory?: number;
  readonly token?: string;
  readonly tokenFile?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsCa?: string;
  readonly drainSeconds?: number;
  readonly block?: true;
  readonly json?: true;
}

/** What the node of this machine offers. Throws ConfigError with the flag of what is wrong. */
export function nodeOptions(
  options: StartOptions,
): Omit<NodeBoot, 'token' | 'headAddress' | 'host' | 'sessionDir' | 'isHeadNode' | 'diesWithParent'> {
  return {
    kind: 'node',
    ...offeredResources(options, flagOf),
    labels: options.labels ?? {},
    drainSeconds: options.drainSeconds ?? DRAIN_SECONDS,
  };
}

/** "--object-store-memory" of "objectStoreMemory". */
const flagOf = (field: string): string => `--${field.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

/** From a flag, a file or the environment; null when none names one. */
export function givenToken(options: Pick<StartOptions, 'token' | 'tokenFile'>): string | null {
  if (options.tokenFile !== undefined) return readToken(options.tokenFile);
  const token = options.token ?? process.env.RAYLITE_TOKEN;
  if (token === undefined || token === '') return null;
  if (!/^[\x21-\x7e]{16,512}$/.test(token)) {
    throw new ConfigError('--token', 'a token of 16 to 512 printable characters', `${token.length} characters`);
  }
  return token;
}

/** What is set, by flags or from outside; other processes of this machine that join are told. */
export const tlsInUse = (): Record<string, string> =>
  Object.fromEntries(
    ['RAYLITE_TLS', 'RAYLITE_TLS_CERT', 'RAYLITE_TLS_KEY', 'RAYLITE_TLS_CA'].flatMap((name) =>
      process.env[name] ? [[name, process.env[name]]] : [],
    ),
  );
