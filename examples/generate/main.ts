// Run: npm run build && npx tsx examples/generate/main.ts FOLDER [PROMPT]
// A Hugging Face folder continues a prompt: as a stream, by beam search, and in three samples with their log-probabilities.
import { TextGenerator } from 'raylite/infer';

const [folder = './gpt2', prompt = 'Once upon a time'] = process.argv.slice(2);
using texts = await TextGenerator.open(folder, { slots: 4 });

const options = { maxNewTokens: 20, seed: 1 };
process.stdout.write('stream ');
for await (const { text } of texts.stream([prompt], { ...options, temperature: 0.8, stopStrings: ['\n\n'] })) {
  process.stdout.write(text);
}
process.stdout.write('\n');

const [beam] = await texts.generate([prompt], { ...options, numBeams: 4, earlyStopping: true });
console.log('beam', beam?.score?.toFixed(3), beam?.text);

for (const { text, logProbs } of await texts.generate([prompt], { ...options, topP: 0.9, numReturnSequences: 3 })) {
  const total = logProbs.reduce((sum, logProb) => sum + logProb, 0);
  console.log('sample', (total / logProbs.length).toFixed(3), text);
}
