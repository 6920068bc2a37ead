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
  /** The ratio aimed at. */
  readonly goal: number;
  readonly ours: () => Promise<Sample>;
  readonly peer: (() => Promise<Sample>) | null;
  readonly warmUps: number;
  readonly rounds: number;
  /** What the hardware or the operating system allows, in the same unit. */
  readonly limit: { readonly name: string; readonly measure: () => Promise<number> } | null;
  /** Throws when both did not do the same work. Gets every sample in order, warm-up included. */
  readonly verify?: (ours: readonly Sample[], peer: readonly Sample[]) => void;
}

export interface Suite extends AsyncDisposable {
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
  readonly goal: number;
  readonly limit: number | null;
  readonly limitName: string | null;
  readonly machine: string;
}

/** Measures ours and the peer in turn: A B A B …, and takes the medians. */
export async function measure(figure: Figure, suite: string, peerName: string, machine: string): Promise<Measured> {
  const ours: Sample[] = [];
  const peer: Sample[] = [];
  for (let round = 0; round < figure.warmUps + figure.rounds; round += 1) {
    ours.push(await figure.ours());
    if (figure.peer) peer.push(await figure.peer());
  }
  if (figure.peer) figure.verify?.(ours, peer);
  const own = median(ours.slice(figure.warmUps));
  const other = figure.peer ? median(peer.slice(figure.warmUps)) : null;
  return {
    suite,
    name: figure.name,
    unit: figure.unit,
    ours: rounded(own),
    peer: other === null ? null : rounded(other),
    peerName: figure.peer ? peerName : null,
    ratio: other === null ? null : rounded(figure.isMoreBetter ? own / other : other / own),
    goal: figure.goal,
    limit: figure.limit ? rounded(await figure.limit.measure()) : null,
    limitName: figure.limit?.name ?? null,
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
