// A figure: one number that raylite and its peer are measured by, in turn, in the same run.

/** What a measured process answers to one command: `value` in the figure's unit, and facts to compare. */
export interface Sample {
  readonly value: number;
  readonly [fact: string]: unknown;
}

export interface Figure {
  readonly name: string;
  readonly unit: string;
  /** Whether more of the unit is better; `ratio` is above 1 when ours is better, either way. */
  readonly isMoreBetter: boolean;
  /** What is aimed at: so many times the peer, this share of the limit, or so much of the unit. */
  readonly goal: { readonly ratio: number } | { readonly share: number } | { readonly value: number };
  readonly ours: () => Promise<Sample>;
  readonly peer: (() => Promise<Sample>) | null;
  readonly warmUps: number;
  readonly rounds: number;
  /** What the hardware or the operating system allows, in the same unit. */
  readonly limit: { readonly name: string; readonly measure: () => Promise<number> } | null;
  /** Throws when both did not do the same work. Gets every sample in order, warm-up included. */
  readonly verify?: (ours: readonly Sample[], peer: readonly Sample[]) => void;
}

/** Figures that are measured by the same processes, which run only while the scene is open. */
export interface Scene {
  /** Names of its figures, known before anything starts. */
  readonly names: readonly string[];
  readonly open: () => Promise<OpenScene>;
}

export interface OpenScene extends AsyncDisposable {
  readonly figures: readonly Figure[];
  readonly peerName: string;
}

export interface Measured {
  readonly suite: string;
  readonly name: string;
  readonly unit: string;
  readonly ours: number;
  readonly peer: number | null;
  readonly peerName: string | null;
  readonly ratio: number | null;
  /** The ratio to the peer aimed at; null where the goal is another. */
  readonly goal: number | null;
  readonly limit: number | null;
  readonly limitName: string | null;
  /** Ours by the limit: 1 is all that the machine can do. */
  readonly shareOfLimit: number | null;
  readonly goalShare: number | null;
  readonly goalValue: number | null;
  /** 1: the goal is met, where it is so much of the unit. */
  readonly shareOfGoal: number | null;
  readonly machine: string;
}

/** Measures ours and the peer in turn: A B A B …, and takes the medians. */
export async function measure(figure: Figure, suite: string, peerName: string, machine: string): Promise<Measured> {
  const ours: Sample[] = [];
  const peer: Sample[] = [];
  // The best of what is seen before, between and after: a limit is what the machine can do undisturbed.
  const limits: number[] = [];
  const measureLimit = async () => {
    if (figure.limit) limits.push(await figure.limit.measure());
  };
  await measureLimit();
  for (let round = 0; round < figure.warmUps + figure.rounds; round += 1) {
    ours.push(await figure.ours());
    if (figure.peer) peer.push(await figure.peer());
    if (round === figure.warmUps) await measureLimit();
  }
  await measureLimit();
  if (figure.peer) figure.verify?.(ours, peer);
  const own = median(ours.slice(figure.warmUps));
  const other = figure.peer ? median(peer.slice(figure.warmUps)) : null;
  const best = figure.isMoreBetter ? Math.max(...limits) : Math.min(...limits);
  const limit = figure.limit ? best : null;
  const better = (one: number, two: number) => rounded(figure.isMoreBetter ? one / two : two / one);
  const goalValue = 'value' in figure.goal ? figure.goal.value : null;
  return {
    suite,
    name: figure.name,
    unit: figure.unit,
    ours: rounded(own),
    peer: other === null ? null : rounded(other),
    peerName: figure.peer ? peerName : null,
    ratio: other === null ? null : better(own, other),
    goal: 'ratio' in figure.goal ? figure.goal.ratio : null,
    limit: limit === null ? null : rounded(limit),
    limitName: figure.limit?.name ?? null,
    shareOfLimit: limit === null ? null : better(own, limit),
    goalShare: 'share' in figure.goal ? figure.goal.share : null,
    goalValue,
    shareOfGoal: goalValue === null ? null : better(own, goalValue),
    machine,
  };
}

function median(samples: readonly Sample[]): number {
  const sorted = samples.map(({ value }) => value).sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Four significant digits: more would be noise. */
const rounded = (value: number): number => Number(value.toPrecision(4));
