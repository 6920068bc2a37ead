// The door of protocol/: how bytes travel. Knows messages, not meanings.
// gRPC has a door of its own, grpc/index.ts.
export * from './booted.js';
export * from './channel.js';
export * from './failure.js';
export { ENVELOPES, type Envelope, Faults, messagesOf } from './faults.js';
export * from './frame-stream.js';
export * from './memory-channel.js';
export * from './message-channel.js';
export * from './socket-channel.js';
export * from './token.js';
export * from './value-codec.js';
export * from './wire.js';
export * from './wire-failure.js';
