// The driver's side of a job whose ranks change while it runs: their state goes on to others in memory, each stretch of it from a rank that
// has it straight to one that needs it, as objects of the cluster. Nothing is written to disk (unless the object store has no room).
import { type ObjectRef, wait } from '../client/index.js';
import { type Incoming, messageOf, planMoves } from '../engine/index.js';
import type { Rank } from './rank-group.js';
import type { RankPlan } from './rank-plan.js';
import type { ScalerState } from './scaler.js';

/** How far a job has come, beside the state of its parameters. */
export interface Position {
  /** Optimizer steps done. */
  readonly step: number;
  readonly scaler: ScalerState;
}

/** All that comes for one rank: where it belongs, and the bytes of each message. */
export interface Mail {
  readonly incoming: readonly Incoming[];
  readonly values: readonly ObjectRef<Float32Array>[];
}

/** Has every holder pack what each of `ranks`, by its place in the new `plan`, needs of it. Holders may end once this resolves. */
export async function collectState(
  holders: readonly Rank[],
  ranks: readonly Rank[],
  plan: Omit<RankPlan, 'rank'>,
): Promise<readonly Mail[]> {
  const held = await Promise.all(holders.map((rank) => rank.held()));
  const needed = await Promise.all(ranks.map((rank, index) => rank.needs({ ...plan, rank: index })));
  const homes = ranks.map((rank) => (holders.includes(rank) ? holders.indexOf(rank) : null));
  const arrivals = planMoves(held, needed, homes);
  const lacking = arrivals.find(({ missing }) => missing > 0);
  if (lacking) throw new Error(`nobody has ${lacking.missing} elements of ${lacking.target.name}`);
  const mail = ranks.map((_, to): Mail => {
    const messages = holders.flatMap((holder, from) => {
      const { outgoing, incoming } = messageOf(arrivals, from, to);
      return outgoing.length === 0 ? [] : [{ incoming, values: holder.pack(outgoing) }];
    });
    return { incoming: messages.map(({ incoming }) => incoming), values: messages.map(({ values }) => values) };
  });
  const packed = mail.flatMap(({ values }) => values);
  await wait(packed, { numReturns: packed.length });
  return mail;
}

/** Sets the state of every rank, whose engine is built as the plan says. */
export async function deliverState(ranks: readonly Rank[], mail: readonly Mail[], position: Position): Promise<void> {
  await Promise.all(ranks.map((rank, to) => rank.unpack(position, mail[to]!.incoming, ...mail[to]!.values)));
}
