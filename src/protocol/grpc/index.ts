// The second door of protocol/: streams between machines. Apart from the first, so that a worker that needs no gRPC
// (40 ms, 10 MB) does not load it: import it lazily.
export { type GrpcDoor, openGrpc, type StreamName, serveGrpc } from './streams.js';
