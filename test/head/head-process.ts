// A head inside the test's process, its folder, and a raw client or node on its gRPC door.
import { type HeadBoot, PROTOCOL_VERSION } from '#src/common/index.js';
import { type Head, startHead } from '#src/head/index.js';
import { openGrpc } from '#src/protocol/grpc/index.js';
import { MessageChannel, wire } from '#src/protocol/index.js';

export const TOKEN = 'test-token-0123456789';

export function bootOf(dir: string, overrides: Partial<HeadBoot> = {}): HeadBoot {
  return {
    kind: 'head',
    host: '127.0.0.1',
    port: 0,
    httpHost: '127.0.0.1',
    httpPort: 0,
    token: TOKEN,
    sessionDir: dir,
    stateDir: null,
    diesWithParent: false,
    ...overrides,
  };
}

export const headIn = (dir: string, overrides: Partial<HeadBoot> = {}): Promise<Head> =>
  startHead(bootOf(dir, overrides), (error) => {
    throw error;
  });

/** Messages of one stream, to be awaited one by one. */
export class Peer<Sent, Received> implements Disposable {
  readonly #messages: MessageChannel<Sent, Received>;
  readonly #come: Received[] = [];
  #waiting: ((message: Received | null) => void) | null = null;
  readonly closed: Promise<string>;

  constructor(messages: MessageChannel<Sent, Received>) {
    this.#messages = messages;
    messages.receive((message) => {
      const waiting = this.#waiting;
      this.#waiting = null;
      if (waiting) waiting(message);
      else this.#come.push(message);
    });
    this.closed = new Promise((resolve) => {
      messages.onClose((reason) => {
        this.#waiting?.(null);
        resolve(reason.error?.message ?? reason.detail);
      });
    });
  }
  send(message: Sent): void {
    this.#messages.send(message);
  }
  /** The next message; throws when the stream ended before it came. */
  async next(): Promise<Received> {
    const come = this.#come.shift();
    if (come !== undefined) return come;
    const message = await new Promise<Received | null>((resolve) => {
      this.#waiting = resolve;
    });
    if (message === null) throw new Error(`the stream ended: ${await this.closed}`);
    return message;
  }
  [Symbol.dispose](): void {
    this.#messages.close('test over');
  }
}

export const openNode = (address: string, token = TOKEN) =>
  new Peer(new MessageChannel(openGrpc('Head.Node', address, token), wire.NodeToHead, wire.HeadToNode));
export const openClient = (address: string, token = TOKEN) =>
  new Peer(new MessageChannel(openGrpc('Head.Client', address, token), wire.ClientToHead, wire.HeadToClient));

export type NodePeer = ReturnType<typeof openNode>;
export type ClientPeer = ReturnType<typeof openClient>;

/** A node that has said hello and was welcomed. */
export async function joinNode(
  head: { readonly address: string },
  hello: wire.NodeHello.$Properties = {},
): Promise<NodePeer> {
  const node = openNode(head.address);
  node.send({
    hello: {
      protocol: PROTOCOL_VERSION,
      nodeId: 'node-a',
      host: '127.0.0.1',
      hostname: 'host-a',
      total: { amounts: { CPU: 2 } },
      ...hello,
    },
  });
  await node.next();
  return node;
}

/** A driver that has said hello and was welcomed. */
export async function joinDriver(
  head: { readonly address: string },
  hello: wire.ClientHello.$Properties = {},
): Promise<ClientPeer> {
  const driver = openClient(head.address);
  driver.send({
    requestId: 1,
    hello: { protocol: PROTOCOL_VERSION, workerId: 'driver-1', isDriver: true, entrypoint: 'node main.js', ...hello },
  });
  await driver.next();
  return driver;
}
