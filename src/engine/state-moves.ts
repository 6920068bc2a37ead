// How the state of a training job goes from one layout of ranks to another: the pieces that ranks have, the pieces that others need, and
// which stretches of the ones make up the others. Pure arithmetic: ranks hand it on in memory by it, and checkpoints, whose files
// have pieces as ranks do, are read by it. State is what steps change: trained parameters (their masters) and what the optimiser keeps.
import { type Layout, type ParameterSlice, partsOf, slicesOf } from './layout.js';
import { groupOf } from './mesh.js';
import { type OptimizerSettings, type StateBuffer, stateBuffers } from './optimizer.js';
import { type Strategy, zeroGroup } from './passes/zero.js';
import { type Cut, commonRuns, type Run, sortedRuns } from './shard.js';

/** The f32 master of a parameter, or the parameter itself where there is none; and the optimiser's state. */
export type StateKind = StateBuffer | 'parameter';

/** Elements [start, start + length) of what one rank of a tensor group holds of one kind of a parameter's state. */
export interface StatePiece {
  readonly name: string;
  readonly kind: StateKind;
  /** Null: ranks of a tensor group hold the same. */
  readonly cut: Cut | null;
  readonly tensorRank: number;
  readonly start: number;
  readonly length: number;
}

/** What pieces follow from. */
export interface RankJob {
  readonly layout: Layout;
  readonly strategy: Strategy;
  readonly optimizer: OptimizerSettings;
}

/** A stretch of a source piece and where it belongs in the target piece, both counted from where the piece starts. */
export interface Stretch {
  readonly source: number;
  readonly target: number;
  readonly length: number;
}

/** What of one source goes into one target. */
export interface StateMove<P extends StatePiece = StatePiece> {
  /** Index of the holder. */
  readonly from: number;
  readonly source: P;
  readonly stretches: readonly Stretch[];
}

/** A needed piece, and all that makes it up: every element comes once. */
export interface Arrival<P extends StatePiece = StatePiece> {
  /** Index of the rank that needs it. */
  readonly to: number;
  readonly target: StatePiece;
  readonly moves: readonly StateMove<P>[];
  /** Elements that the rank needs, padding of a cut left out, and how many of them nobody has. */
  readonly elements: number;
  readonly missing: number;
}

/** The parts of parameters that a rank steps. */
export function ownedSlices({ layout, strategy }: Pick<RankJob, 'layout' | 'strategy'>): readonly ParameterSlice[] {
  return slicesOf(layout, strategy.zeroStage === 0 ? 0 : zeroGroup(strategy).index);
}

/** All that a rank has of the job's state, exactly. Several ranks may have the same. */
export function heldPieces(job: RankJob): readonly StatePiece[] {
  return piecesOf(job, !job.layout.hasMasters);
}

/** All that a rank must be given to go on: of parameters what it keeps, which are more than it steps (ZeRO below stage 3). */
export function neededPieces(job: RankJob): readonly StatePiece[] {
  return piecesOf(job, true);
}

function piecesOf(job: RankJob, isKept: boolean): readonly StatePiece[] {
  const { layout, strategy, optimizer } = job;
  const tensorRank = groupOf(strategy.mesh, strategy.rank, 'tensor').index;
  const cuts = new Map(layout.buckets.flatMap(({ parameters }) => parameters.map(({ name, cut }) => [name, cut])));
  const piece = (name: string, kind: StateKind, start: number, length: number): StatePiece => {
    return { name, kind, cut: cuts.get(name) ?? null, tensorRank, start, length };
  };
  const slices = ownedSlices(job);
  const parts = [...partsOf(layout, zeroGroup(strategy).index)].filter(([name]) => cuts.has(name));
  return [
    ...(isKept
      ? parts.map(([name, { start, length }]) => piece(name, 'parameter', start, length))
      : slices.map(({ name, parameterOffset, length }) => piece(name, 'parameter', parameterOffset, length))),
    ...slices.flatMap(({ name, parameterOffset, length, bucket }) =>
      stateBuffers(optimizer, bucket).map((kind) => piece(name, kind, parameterOffset, length)),
    ),
  ];
}

/**
 * What of `held` (by holder) makes up `needed` (by rank). A rank takes from `homes[rank]` first, the holder whose memory is its own, where
 * it has one; of several others that have the same, the one that has given least gives. What nobody has is counted as missing.
 */
export function planMoves<P extends StatePiece>(
  held: readonly (readonly P[])[],
  needed: readonly (readonly StatePiece[])[],
  homes: readonly (number | null)[] = [],
): readonly Arrival<P>[] {
  const holders = new Map<string, { readonly from: number; readonly piece: P }[]>();
  for (const [from, pieces] of held.entries())
    for (const piece of pieces) {
      const known = holders.get(keyOf(piece));
      if (known) known.push({ from, piece });
      else holders.set(keyOf(piece), [{ from, piece }]);
    }
  const given = held.map(() => 0);
  return needed.flatMap((targets, to) =>
    targets.map((target): Arrival<P> => {
      const home = homes[to] ?? null;
      const rank = ({ from }: { readonly from: number }) => (from === home ? -1 : given[from]!);
      const sources = (holders.get(keyOf(target)) ?? []).toSorted((a, b) => rank(a) - rank(b) || a.from - b.from);
      let left = runsOfPiece(target);
      const elements = lengthOf(left);
      const moves: StateMove<P>[] = [];
      for (const { from, piece } of sources) {
        if (left.length === 0) break;
        const common = commonRuns(runsOfPiece(piece), left);
        if (common.length === 0) continue;
        const stretches = common.map(({ a, b, length }) => {
          return { source: a - piece.start, target: b - target.start, length };
        });
        moves.push({ from, source: piece, stretches });
        left = without(left, common);
        if (from !== home) given[from]! += lengthOf(common);
      }
      return { to, target, moves, elements, missing: lengthOf(left) };
    }),
  );
}

const keyOf = ({ name, kind }: StatePiece): string => `${name}/${kind}`;

const runsOfPiece = ({ cut, tensorRank, start, length }: StatePiece): readonly Run[] =>
  sortedRuns(cut, tensorRank, start, start + length);

function lengthOf(runs: readonly { readonly length: number }[]): number {
  return runs.reduce((sum, { length }) => sum + length, 0);
}

/** `runs` without the stretches that {@link commonRuns} found in them, which come in their order. */
function without(runs: readonly Run[], found: readonly { readonly b: number; readonly length: number }[]): Run[] {
  let next = 0;
  return runs.flatMap((run) => {
    const end = run.held + run.length;
    const left: Run[] = [];
    let at = run.held;
    const keep = (until: number) => {
      if (until > at) left.push({ whole: run.whole + at - run.held, held: at, length: until - at });
    };
    for (; next < found.length; next++) {
      const { b, length } = found[next]!;
      if (b < at || b >= end) break;
      keep(b);
      at = b + length;
    }
    keep(end);
    return left;
  });
}
