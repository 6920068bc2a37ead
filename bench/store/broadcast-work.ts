// What runs on the machines that read.
export const lengthOf = (bytes: Uint8Array): number => bytes.byteLength;
