// A plan as a table for people: what runs when, on what, and what it costs.
import { placed } from '../autodiff.js';
import { showAmount, showType } from '../graph.js';
import { defaultCost, ruleOf } from '../ops/index.js';
import type { Plan } from './plan.js';
import { STREAMS } from './schedule.js';

/** One line per instruction, then buffers, the life of each block of the arena, and totals. */
export function explain(plan: Plan): string {
  const { graph, places, schedule } = plan;
  let flops = 0;
  let bytes = 0;
  const rows = graph.ops.map((op, index) => {
    const cost = (ruleOf(op.kind).cost ?? defaultCost)(placed(graph, op));
    flops += cost.flops;
    bytes += cost.bytes;
    const types = [...new Set(op.outputs)].map((id) => {
      const place = places.get(id)!;
      return `${showType(graph.tensors[id]!)} @${place.buffer}+${place.offsetBytes}`;
    });
    const waits = schedule.waits[index]!.map((wait) => `#${wait}`).join(' ');
    const stream = STREAMS[schedule.streams[index]!]!;
    return [
      `#${index}`,
      stream,
      waits,
      op.kind,
      op.path,
      showAmount(cost.flops, 'FLOP'),
      showAmount(cost.bytes, 'B'),
      types.join(', '),
    ];
  });
  const { peakBytes, lowerBoundBytes } = plan.arena;
  const lost = peakBytes === 0 ? 0 : 100 * (1 - lowerBoundBytes / peakBytes);
  return [
    ...table(['', 'stream', 'waits', 'op', 'path', 'arithmetic', 'memory', 'results'], rows),
    '',
    ...plan.buffers.map((buffer) => `buffer ${buffer.name}: ${showAmount(buffer.bytes, 'B')}`),
    ...table(
      ['', 'arena', 'bytes', 'life'],
      plan.arena.lives.map(({ path, bytes, offsetBytes, first, last }) => [
        `@${offsetBytes}`,
        path,
        showAmount(bytes, 'B'),
        `#${first} to #${last}`,
      ]),
    ),
    '',
    `arena: peak ${showAmount(peakBytes, 'B')}, at least ${showAmount(lowerBoundBytes, 'B')}, lost ${lost.toFixed(1)} %`,
    `total: ${graph.ops.length} instructions, ${showAmount(flops, 'FLOP')}, ${showAmount(bytes, 'B')} moved; plan ${plan.hash}`,
  ].join('\n');
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): readonly string[] {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  return all.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  );
}
