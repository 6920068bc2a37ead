// The format of TensorBoard's event files: records with masked CRC-32C around them (tensorflow/core/lib/io/record_writer.h), each an
// `Event` (tensorflow/core/util/event.proto) whose fields are written and read by number here. Pure.
import protobuf from 'protobufjs/minimal.js';
import { crc32c } from './crc32c.js';
import type { Scalar } from './scalars.js';

/** Length and its check before the bytes of a record, their check behind. */
const HEAD_BYTES = 12;
const TAIL_BYTES = 4;
const LENGTH_BYTES = 8;

/** Field numbers and wire types, as `field << 3 | wire`. */
const EVENT = {
  wallTime: (1 << 3) | 1,
  step: 2 << 3,
  fileVersion: (3 << 3) | 2,
  summary: (5 << 3) | 2,
  sessionLog: (7 << 3) | 2,
};
const SUMMARY_VALUE = (1 << 3) | 2;
const VALUE = { tag: (1 << 3) | 2, simpleValue: (2 << 3) | 5 };
const SESSION_STATUS = 1 << 3;
const SESSION_START = 1;

const masked = (bytes: Uint8Array): number => {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
};

export function record(data: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(HEAD_BYTES + data.length + TAIL_BYTES);
  bytes.writeBigUInt64LE(BigInt(data.length));
  bytes.writeUInt32LE(masked(bytes.subarray(0, LENGTH_BYTES)), LENGTH_BYTES);
  bytes.set(data, HEAD_BYTES);
  bytes.writeUInt32LE(masked(data), HEAD_BYTES + data.length);
  return bytes;
}

const event = (wallSeconds: number): protobuf.Writer =>
  protobuf.Writer.create().uint32(EVENT.wallTime).double(wallSeconds);

/** What a file begins with. */
export function versionEvent(wallSeconds: number): Uint8Array {
  return event(wallSeconds).uint32(EVENT.fileVersion).string('brain.Event:2').finish();
}

/** Has readers that look on forget the points from `position` on: the run goes back to there. */
export function restartEvent(wallSeconds: number, position: number): Uint8Array {
  return event(wallSeconds)
    .uint32(EVENT.step)
    .int64(position)
    .uint32(EVENT.sessionLog)
    .fork()
    .uint32(SESSION_STATUS)
    .int32(SESSION_START)
    .ldelim()
    .finish();
}

export function scalarsEvent(wallSeconds: number, position: number, scalars: readonly Scalar[]): Uint8Array {
  const writer = event(wallSeconds).uint32(EVENT.step).int64(position).uint32(EVENT.summary).fork();
  for (const { tag, value } of scalars)
    writer.uint32(SUMMARY_VALUE).fork().uint32(VALUE.tag).string(tag).uint32(VALUE.simpleValue).float(value).ldelim();
  return writer.ldelim().finish();
}

/** Bytes of `file` up to its first points behind `position`, or to where a crash cut it or bytes are damaged. */
export function lengthUpTo(file: Uint8Array, position: number): number {
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  let at = 0;
  while (at + HEAD_BYTES + TAIL_BYTES <= bytes.length) {
    const head = bytes.subarray(at, at + LENGTH_BYTES);
    const length = Number(head.readBigUInt64LE());
    const end = at + HEAD_BYTES + length + TAIL_BYTES;
    if (masked(head) !== bytes.readUInt32LE(at + LENGTH_BYTES) || end > bytes.length) return at;
    const data = bytes.subarray(at + HEAD_BYTES, end - TAIL_BYTES);
    if (masked(data) !== bytes.readUInt32LE(end - TAIL_BYTES) || pointsAt(data) > position) return at;
    at = end;
  }
  return at;
}

/** The position of an event's points; -1 of one that has none. */
function pointsAt(data: Uint8Array): number {
  const reader = protobuf.Reader.create(data);
  let position = 0;
  let hasPoints = false;
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === EVENT.step) position = Number(reader.int64());
    else {
      hasPoints ||= tag === EVENT.summary;
      reader.skipType(tag & 7);
    }
  }
  return hasPoints ? position : -1;
}
