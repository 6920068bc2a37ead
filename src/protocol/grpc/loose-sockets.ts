// The sockets under gRPC, which grpc-js holds as long as a stream is open: here they need not keep their process from ending.
import type { Socket } from 'node:net';
import type { ChannelCredentials } from '@grpc/grpc-js';

export class LooseSockets {
  readonly #sockets = new Set<Socket>();
  #isLoose = false;

  /** `credentials` whose connections are under our watch; changed in place. */
  watch(credentials: ChannelCredentials): ChannelCredentials {
    const make = credentials._createSecureConnector.bind(credentials);
    credentials._createSecureConnector = (target, options, callCredentials) => {
      const connector = make(target, options, callCredentials);
      const connect = connector.connect.bind(connector);
      connector.connect = async (plain) => {
        const connected = await connect(plain);
        this.add(connected.socket);
        return connected;
      };
      return connector;
    };
    return credentials;
  }

  unref(): void {
    this.#isLoose = true;
    for (const socket of this.#sockets) loosen(socket);
  }

  add(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    if (this.#isLoose) loosen(socket);
  }
}

/** grpc-js refs the socket again with each stream. */
function loosen(socket: Socket): void {
  socket.unref();
  socket.ref = () => socket;
}
