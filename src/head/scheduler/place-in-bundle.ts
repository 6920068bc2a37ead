// Chooses the bundle of a placement group that an actor or a task runs in. Pure.
import { fits, formatResources, type NodeId, type Resources, subtractResources } from '../../common/index.js';
import { chooseGpus, type GpuRoom } from './gpu-room.js';

/** What an actor or task asks for that is to run in a placement group. */
export interface BundleWish {
  readonly groupId: string;
  readonly index: number; // -1: any
}

export interface BundleRoom {
  readonly needs: Resources;
  readonly used: Resources;
  /** Of its devices, those that are not broken. */
  readonly gpus: GpuRoom;
  /** Null: it is not set aside yet, or its node was lost. */
  readonly nodeId: NodeId | null;
  readonly isConnected: boolean;
}

export type BundleChoice =
  | { readonly kind: 'bundle'; readonly index: number; readonly nodeId: NodeId }
  | { readonly kind: 'wait'; readonly reason: string }
  | { readonly kind: 'infeasible'; readonly reason: string };

/** @param bundles of the group, by index */
export function placeInBundle(needs: Resources, wish: BundleWish, bundles: readonly BundleRoom[]): BundleChoice {
  const asked = formatResources(needs);
  const name = wish.index === -1 ? 'a bundle' : `bundle ${wish.index}`;
  const allowed = [...bundles.entries()].filter(([index]) => wish.index === -1 || index === wish.index);
  if (allowed.length === 0) {
    return {
      kind: 'infeasible',
      reason: `asks for bundle ${wish.index} of placement group ${wish.groupId}, which has bundles 0 to ${bundles.length - 1}`,
    };
  }
  const able = allowed.filter(([, bundle]) => fits(needs, bundle.needs));
  if (able.length === 0) {
    const sizes = [...new Set(allowed.map(([, bundle]) => formatResources(bundle.needs)))].join(' or ');
    return {
      kind: 'infeasible',
      reason: `asks for ${asked} in ${name} of placement group ${wish.groupId}, which holds ${sizes}`,
    };
  }
  for (const [index, bundle] of able) {
    if (bundle.nodeId === null || !bundle.isConnected) continue;
    if (fits(needs, subtractResources(bundle.needs, bundle.used)) && chooseGpus(needs, bundle.gpus) !== null)
      return { kind: 'bundle', index, nodeId: bundle.nodeId };
  }
  const waits = `waits for ${asked} in ${name} of placement group ${wish.groupId}`;
  if (able.every(([, bundle]) => bundle.nodeId === null))
    return { kind: 'wait', reason: `${waits}, which waits for room` };
  return { kind: 'wait', reason: `${waits}: others use it, or its node is away or to leave` };
}
