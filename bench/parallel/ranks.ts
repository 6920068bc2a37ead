// raylite's side of a figure with several ranks: answers each line by asking all rank processes the same thing, and tells the sum of
// their losses and the slowest time. Usage: ranks.js RANKS SCRIPT ARGUMENT…; SCRIPT is a module that calls `serveRank`.
import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

/** What a rank answers: the seconds of its part, and facts that are added up over ranks. */
export interface RankAnswer {
  readonly seconds: number;
  readonly sums: Readonly<Record<string, number>>;
}

/** What a rank is told before anything else. */
export interface RankPlace {
  readonly rank: number;
  readonly ranks: number;
  /** Of a group that only these ranks join. */
  readonly name: string;
  readonly args: readonly string[];
}

/** The rank's side: `open` once, then an answer per line. The process ends with its parent. */
export function serveRank(open: (place: RankPlace) => Promise<(line: string) => Promise<RankAnswer>>): void {
  let answer: ((line: string) => Promise<RankAnswer>) | null = null;
  process.on('message', (message: RankPlace | string) => {
    const work = async () => {
      if (typeof message !== 'string') {
        answer = await open(message);
        return { seconds: 0, sums: {} };
      }
      return await answer!(message);
    };
    work().then(
      (result) => process.send?.(result),
      (error: unknown) => {
        console.error(error);
        process.exit(1);
      },
    );
  });
  process.on('disconnect', () => process.exit());
}

async function main([ranks, script, ...args]: readonly string[]): Promise<void> {
  const children = Array.from({ length: Number(ranks) }, () => fork(script!));
  for (const child of children) child.on('exit', (code) => code !== 0 && process.exit(1));
  const ask = async (child: ChildProcess, message: RankPlace | string): Promise<RankAnswer> => {
    child.send(message);
    const [answer] = (await once(child, 'message')) as [RankAnswer];
    return answer;
  };
  const name = `raylite-bench-${randomUUID()}`;
  await Promise.all(children.map((child, rank) => ask(child, { rank, ranks: children.length, name, args })));
  console.log(JSON.stringify({ ready: 'raylite' }));
  for await (const line of createInterface(process.stdin)) {
    const answers = await Promise.all(children.map((child) => ask(child, line)));
    const sums: Record<string, number> = {};
    for (const answer of answers)
      for (const [key, value] of Object.entries(answer.sums)) sums[key] = (sums[key] ?? 0) + value;
    console.log(JSON.stringify({ value: Math.max(...answers.map(({ seconds }) => seconds)), ...sums }));
  }
  for (const child of children) child.disconnect();
}

if (import.meta.url === pathToFileURL(process.argv[1]!).href) await main(process.argv.slice(2));
