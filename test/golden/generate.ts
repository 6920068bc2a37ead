// Cases that decode greedily from prompts padded on the left.
import { layoutOf, ParameterStore } from '#src/engine/index.js';
import { Generator } from '#src/infer/index.js';
import { Checks, LIMITS } from './checks.js';
import type { CaseRun } from './forward.js';

export async function runGenerate({ golden, tensors, subject, device }: CaseRun): Promise<Checks> {
  const checks = new Checks();
  const [count, length] = tensors.shape('input_ids') as [number, number];
  const ids = await tensors.integers('input_ids');
  const mask = await tensors.integers('attention_mask');
  const prompts = Array.from({ length: count }, (_, row) => {
    const range = Array.from({ length }, (_, t) => row * length + t);
    return range.filter((i) => mask[i]).map((i) => ids[i]!);
  });
  const expected = await tensors.integers('sequences');
  const total = tensors.shape('sequences')[1]!;
  const newTokens = golden.new_tokens as number;

  using store = new ParameterStore(device, layoutOf(subject.model));
  await subject.loadInto(store);
  // Two slots for three prompts and a short prefill, so that a slot is used twice and a prompt is cut.
  using generator = new Generator({ model: subject.model, store, slots: 2, positions: total, prefillRows: 8 });
  const eos = golden.eos_token_id as number | null;
  const generations = await generator.generate(prompts, {
    maxNewTokens: newTokens,
    eosTokenIds: eos === null ? [] : [eos],
    hasStepLogits: true,
  });
  for (const [row, { ids: found }] of generations.entries()) {
    const tail = Array.from(expected.subarray(row * total + length, (row + 1) * total));
    const padded = Array.from({ length: tail.length }, (_, t) => found[t] ?? (golden.pad_token_id as number));
    checks.arrays(`tokens of row ${row}`, padded, tail, LIMITS.equal);
  }
  if (!tensors.has('step_logits')) return checks;
  const logits = await tensors.floats('step_logits');
  const vocabulary = tensors.shape('step_logits')[2]!;
  for (const [row, { stepLogits }] of generations.entries()) {
    for (const [t, found] of stepLogits.entries()) {
      const start = (row * newTokens + t) * vocabulary;
      checks.arrays(
        `logits of row ${row}, token ${t}`,
        found,
        logits.subarray(start, start + vocabulary),
        LIMITS.logits,
      );
    }
  }
  return checks;
}
