// What carry.ts has done on the other node.
export const MARKER = 'what-nobody-may-read-on-the-wire ';
export const repeat = (text: string, count: number): string => text.repeat(count);
export const sizeOf = (bytes: Uint8Array): number => bytes.byteLength;
