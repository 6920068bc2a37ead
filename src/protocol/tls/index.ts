// A door of protocol/ of its own: who stays on one machine loads no TLS.
export { certificateOf } from './certificate.js';
export { secureDoor } from './door.js';
export { clusterFetch, type FetchInit, HandshakeError } from './fetch.js';
export { clientOptions, explainHandshake, hostOf, isLoopback, type TlsIdentity, tlsOf } from './identity.js';
