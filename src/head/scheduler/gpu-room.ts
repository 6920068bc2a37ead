// GPUs one by one: what of each device of a node, or of a bundle there, is free, and which of them work gets. Pure.
import { type Resources, roundAmount } from '../../common/index.js';

/** A device and what is free of it. */
export interface GpuShare {
  /** Of its node, from 0. */
  readonly device: number;
  /** 0 to 1, in steps of 1/10,000. */
  readonly free: number;
  /** Its node said that it is broken: nothing new is placed there. */
  readonly isBroken?: boolean;
}

/** Of different devices. Treat as a value: every function returns a new one. */
export type GpuRoom = readonly GpuShare[];

/** The GPUs of an empty node that has so many. */
export const newGpuRoom = (total: Resources): GpuRoom =>
  Array.from({ length: Math.floor(total.GPU ?? 0) }, (_, device) => ({ device, free: 1 }));

/** What work that got `amount` of GPUs has of each of its devices: a part of one, or all of several. */
const shareOf = (amount: number): number => Math.min(1, roundAmount(amount));

export const devicesOf = (room: GpuRoom): readonly number[] => room.map(({ device }) => device);

/** The GPUs of an empty bundle for which `devices` were set aside. */
export const gpuRoomOf = (devices: readonly number[], { GPU = 0 }: Resources): GpuRoom =>
  devices.map((device) => ({ device, free: shareOf(GPU) }));

/**
 * The devices for the GPUs that `needs` asks for; none where it asks for none; null: there is no room. A part of a GPU goes
 * where the least is left over, so that whole ones stay free; whole ones must be free altogether.
 */
export function chooseGpus({ GPU = 0 }: Resources, room: GpuRoom): readonly number[] | null {
  if (GPU <= 0) return [];
  if (GPU < 1) {
    let best: GpuShare | null = null;
    for (const share of room)
      if (!share.isBroken && share.free >= roundAmount(GPU) && (best === null || share.free < best.free)) best = share;
    return best && [best.device];
  }
  const whole = room.filter(({ free, isBroken }) => free === 1 && !isBroken);
  return Number.isInteger(GPU) && whole.length >= GPU ? whole.slice(0, GPU).map(({ device }) => device) : null;
}

/** Whether each of `devices` has room for its share of `needs`. */
export const fitsGpus = (devices: readonly number[], { GPU = 0 }: Resources, room: GpuRoom): boolean =>
  devices.every((device) => room.some((share) => share.device === device && share.free >= shareOf(GPU)));

export const holdGpus = (room: GpuRoom, devices: readonly number[], { GPU = 0 }: Resources): GpuRoom =>
  changed(room, devices, -shareOf(GPU));
export const releaseGpus = (room: GpuRoom, devices: readonly number[], { GPU = 0 }: Resources): GpuRoom =>
  changed(room, devices, shareOf(GPU));

const changed = (room: GpuRoom, devices: readonly number[], change: number): GpuRoom =>
  devices.length === 0 || change === 0
    ? room
    : room.map((share) =>
        devices.includes(share.device) ? { ...share, free: roundAmount(share.free + change) } : share,
      );

/** The same room where exactly `broken` of its devices are broken. */
export const withBroken = (room: GpuRoom, broken: ReadonlySet<number>): GpuRoom =>
  room.map(({ device, free }) => ({ device, free, ...(broken.has(device) ? { isBroken: true } : {}) }));

/** The devices of `room` that are not broken on their node. */
export const soundGpus = (room: GpuRoom, node: GpuRoom): GpuRoom =>
  room.filter(({ device }) => !node[device]?.isBroken);

/** The GPUs that can be given to somebody, added up. */
export const freeGpuAmount = (room: GpuRoom): number =>
  roundAmount(room.reduce((sum, { free, isBroken }) => sum + (isBroken ? 0 : free), 0));

/** Why `needs` has no room though the sum would do: "has 1 of 2 GPU wholly free", "has 0.4 and 0.4 of 2 GPU free". */
export function describeGpus({ GPU = 0 }: Resources, room: GpuRoom): string {
  const broken = room.filter(({ isBroken }) => isBroken).length;
  const sound = room.filter(({ isBroken }) => !isBroken);
  const parts = sound.map(({ free }) => free).filter((free) => free > 0);
  const has =
    GPU < 1
      ? `${parts.join(' and ') || '0'} of ${room.length} GPU free`
      : `${parts.filter((free) => free === 1).length} of ${room.length} GPU wholly free`;
  return `${has}${broken > 0 ? ` (${broken} broken)` : ''}`;
}
