// gRPC as raylite uses it: long-lived byte streams, a bearer token on each, every limit set. Loaded only by processes
// that talk to other machines or to the head.
import { type AddressInfo, createServer, type Socket } from 'node:net';
import {
  type ChannelCredentials,
  type ChannelOptions,
  Client,
  credentials,
  Metadata,
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  status,
} from '@grpc/grpc-js';
import { ConnectionError } from '../../common/index.js';
import type { Channel } from '../channel.js';
import { FRAME_BYTES_MAX } from '../channel.js';
import { clientOptions, hostOf, secureDoor, type TlsIdentity, tlsOf } from '../tls/index.js';
import { bearerToken, isSameToken } from '../token.js';
import { GrpcChannel } from './channel.js';
import { LooseSockets } from './loose-sockets.js';

/** The three conversations that ride on gRPC; see proto/. */
export type StreamName = 'Head.Node' | 'Head.Client' | 'CallService.Open';

const pass = (bytes: Buffer): Buffer => bytes;

function definition(name: StreamName): MethodDefinition<Buffer, Buffer> {
  return {
    path: `/raylite.${name.replace('.', '/')}`,
    requestStream: true,
    responseStream: true,
    requestSerialize: pass,
    requestDeserialize: pass,
    responseSerialize: pass,
    responseDeserialize: pass,
  };
}

/**
 * Limits and habits of every connection. grpc-js defaults: 4 MB to receive, 64 KiB windows (64 MB/s at 1 ms), no
 * keep-alive; its retries buffer whole streams and its channelz remembers dead ones.
 */
const options: ChannelOptions = {
  'grpc.max_send_message_length': FRAME_BYTES_MAX,
  'grpc.max_receive_message_length': FRAME_BYTES_MAX,
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 20_000,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.enable_retries': 0,
  'grpc.enable_channelz': 0,
  'grpc.use_local_subchannel_pool': 1,
  'grpc-node.flow_control_window': 8 * 1024 * 1024,
  'grpc-node.max_session_memory': 64, // MiB
  'grpc.max_concurrent_streams': 16,
  'grpc.max_metadata_size': 16 * 1024,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2_000,
  'grpc.enable_http_proxy': 0,
};

/** A listening gRPC door. */
export interface GrpcDoor extends AsyncDisposable {
  readonly port: number;
  /** From now on the door, and what comes in by it, does not keep this process from ending. */
  unref(): void;
}

/**
 * Listens on `host`:`port` (0: any free one) and hands every authenticated stream to its entry in `streams`. A stream
 * without the cluster's token ends with UNAUTHENTICATED before anybody sees it, one without TLS where `host` asks for it with
 * FAILED_PRECONDITION. Rejects with {@link ConnectionError}.
 */
export async function serveGrpc(
  at: { readonly host: string; readonly port: number; readonly token: string },
  streams: Partial<Readonly<Record<StreamName, (channel: Channel, peer: string) => void>>>,
): Promise<GrpcDoor> {
  const server = new Server(options);
  const open = (accept: (channel: Channel, peer: string) => void) => (stream: ServerDuplexStream<Buffer, Buffer>) => {
    const given = stream.metadata.get('authorization');
    const token = given.length === 1 ? bearerToken(String(given[0])) : null;
    if (token === null || !isSameToken(token, at.token)) {
      const details = token === null ? 'no cluster token was given' : 'the cluster token is wrong';
      stream.on('error', () => {}); // the peer may be gone before it reads the refusal
      stream.emit('error', { code: status.UNAUTHENTICATED, details, metadata: new Metadata() });
      return;
    }
    const peer = stream.getPeer();
    accept(new GrpcChannel(stream, peer), peer);
  };
  for (const [name, accept] of Object.entries(streams) as [StreamName, (channel: Channel, peer: string) => void][]) {
    const method = name.split('.')[1]!;
    server.addService({ [method]: definition(name) }, { [method]: open(accept) });
  }
  // The listening socket is ours, since grpc-js does not let go of its own.
  const { injectConnection } = server.createConnectionInjector(ServerCredentials.createInsecure());
  const tls = tlsOf(at.host, at.token);
  const refusal = tls && plainRefusal(Object.keys(streams) as StreamName[]);
  const accept = tls
    ? secureDoor(tls, { secure: injectConnection, plain: (socket) => refusal?.inject(socket), alpn: ['h2'] })
    : injectConnection;
  const sockets = new LooseSockets();
  const door = createServer((socket) => {
    sockets.add(socket);
    accept(socket);
  });
  await new Promise<void>((resolve, reject) => {
    door.once('error', (cause) => {
      const detail = `cannot listen (${cause.message}). Choose another port, or port 0 for any free one`;
      reject(new ConnectionError({ address: `${at.host}:${at.port}`, detail }, { cause }));
    });
    door.listen(at.port, at.host, resolve);
  });
  return {
    port: (door.address() as AddressInfo).port,
    unref() {
      door.unref();
      sockets.unref();
    },
    async [Symbol.asyncDispose]() {
      door.close();
      server.forceShutdown();
      refusal?.server.forceShutdown();
    },
  };
}

/** What a client without TLS meets at a door that asks for it: an answer in its own tongue. */
function plainRefusal(names: readonly StreamName[]): {
  readonly server: Server;
  readonly inject: (socket: Socket) => void;
} {
  const server = new Server(options);
  const details =
    'this cluster takes TLS connections only. Take the address that "raylite start --head" printed, or set RAYLITE_TLS=1';
  const refuse = (stream: ServerDuplexStream<Buffer, Buffer>): void => {
    stream.on('error', () => {});
    stream.emit('error', { code: status.FAILED_PRECONDITION, details, metadata: new Metadata() });
  };
  for (const name of names) {
    const method = name.split('.')[1]!;
    server.addService({ [method]: definition(name) }, { [method]: refuse });
  }
  return { server, inject: server.createConnectionInjector(ServerCredentials.createInsecure()).injectConnection };
}

function secured(address: string, tls: TlsIdentity): ChannelCredentials {
  const { ca, checkServerIdentity } = clientOptions(hostOf(address), tls);
  return credentials.createSsl(Buffer.from(ca as string), null, null, { checkServerIdentity });
}

/** A stream to a gRPC door, and the connection under it; both end together. */
export function openGrpc(name: StreamName, address: string, token: string): Channel {
  const sockets = new LooseSockets();
  const tls = tlsOf(hostOf(address), token);
  const client = new Client(address, sockets.watch(tls ? secured(address, tls) : credentials.createInsecure()), {
    ...options,
    ...(tls ? { 'grpc.ssl_target_name_override': clientOptions('', tls).servername } : {}), // an address is no server name
  });
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${token}`);
  const { path } = definition(name);
  const stream = client.makeBidiStreamRequest(path, pass, pass, metadata);
  const channel = new GrpcChannel(stream, address, sockets);
  channel.onClose(() => client.close());
  return channel;
}
