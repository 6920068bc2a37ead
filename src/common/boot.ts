// How the processes of a cluster are started: whoever starts one writes a boot file (mode 0600) and passes its path,
// `node dist/head/main.js --boot FILE`. Secrets are never on a command line. A child that was given an IPC channel sends
// one `Ready` message; with `diesWithParent` it ends when that channel closes.
import type { Resources } from './resources.js';

/** Version of the wire protocol; both sides of every stream must have the same. */
export const PROTOCOL_VERSION = 2;

/** Ports that users know from Ray. */
export const DEFAULT_HEAD_PORT = 6379;
export const DEFAULT_HTTP_PORT = 8265;

/** How long what runs has on a node that is told to end: less than Kubernetes and Slurm wait (30 s) before they end it by force. */
export const DRAIN_SECONDS = 25;

export interface HeadBoot {
  readonly kind: 'head';
  readonly host: string; // to bind; "127.0.0.1" unless the user asked otherwise
  readonly port: number; // 0: any free one
  readonly httpHost: string;
  readonly httpPort: number; // 0: any free one
  readonly token: string;
  readonly sessionDir: string; // 0700; logs in <sessionDir>/logs
  readonly stateDir: string | null; // null: keep nothing across restarts (embedded clusters)
  readonly diesWithParent: boolean;
}

export interface NodeBoot {
  readonly kind: 'node';
  readonly headAddress: string | null; // "host:port"; null: the parent sends it over IPC as soon as it knows
  readonly token: string;
  readonly host: string | null; // address other machines reach this one at; null: cluster on one machine, no TCP door
  readonly sessionDir: string; // 0700; sockets, logs, packages
  readonly resources: Resources; // total of the node, CPU and memory included
  readonly labels: Readonly<Record<string, string>>;
  readonly objectStoreBytes: number;
  readonly isHeadNode: boolean;
  /** How long what runs has once the node is told to end (SIGTERM), if it is not the head's. Absent: no time. */
  readonly drainSeconds?: number;
  readonly diesWithParent: boolean;
}

/** What a parent sends a node whose boot file names no head, once the head serves. */
export interface HeadKnown {
  readonly headAddress: string;
}

export type BootReady =
  | { readonly kind: 'head'; readonly address: string; readonly httpUrl: string; readonly pid: number }
  | { readonly kind: 'node'; readonly nodeId: string; readonly uds: string; readonly pid: number }
  | {
      readonly kind: 'failed';
      readonly code: string;
      readonly message: string;
      readonly fields: Readonly<Record<string, unknown>>;
    };

/** What `raylite start` leaves in `<root>/current.json` so that later commands on this machine find the cluster. */
export interface CurrentCluster {
  readonly sessionDir: string;
  readonly headAddress: string;
  readonly httpUrl: string;
  readonly tokenFile: string;
  readonly agentUds: string;
  readonly nodeId: string;
  readonly pids: readonly number[];
  /** The longest that a node of these may take to leave. */
  readonly drainSeconds?: number;
  /** Certificates of the user's own, as environment variables RAYLITE_TLS_*. */
  readonly tls?: Readonly<Record<string, string>>;
}
