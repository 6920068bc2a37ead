// The kinds of tasks of the generated instruction set. Each draws its arguments, words the request and computes the answer.
import type { Random } from './random.js';

export interface GeneratedTask {
  /** What the question is about, whatever its wording: equal keys are the same question. */
  readonly key: string;
  readonly instruction: string;
  readonly input: string;
  readonly output: string;
}

export type TaskMaker = (random: Random) => GeneratedTask;

const MONTHS = 'January February March April May June July August September October November December'.split(' ');
const ANIMALS = 'cat dog horse cow sheep goat lion tiger bear wolf fox rabbit mouse duck goose swan eagle frog'.split(
  ' ',
);
const FOODS = 'bread cheese apple pear plum grape lemon rice soup cake egg milk honey butter bean corn onion nut'.split(
  ' ',
);
const TOOLS =
  'hammer saw drill knife spoon rope nail brush ladder shovel needle wheel lamp pump lock chain axe rake'.split(' ');
const COLOURS = 'red blue green yellow black white brown pink grey orange purple silver'.split(' ');
const THINGS = [...ANIMALS, ...FOODS, ...TOOLS];
const LETTERS = 'abcdefghijklmnopqrstuvwxyz'.split('');

function distinct<T>(random: Random, items: readonly T[], count: number): T[] {
  return random.shuffle(items).slice(0, count);
}
const letters = (random: Random, low: number, high: number): string[] =>
  Array.from({ length: random.between(low, high) }, () => random.pick(LETTERS));

/** Tasks by name. Answers are short and can be checked letter by letter. */
export const TASKS: Readonly<Record<string, TaskMaker>> = {
  add(random) {
    const [a, b] = [random.between(0, 20), random.between(0, 20)];
    const instruction = random.pick(['Add the numbers.', 'What is the sum?']);
    return { key: `${a}+${b}`, instruction, input: `${a} + ${b}`, output: `${a + b}` };
  },
  subtract(random) {
    const a = random.between(0, 30);
    const b = random.between(0, a);
    const instruction = random.pick(['Subtract the second number from the first.', 'What is the difference?']);
    return { key: `${a}-${b}`, instruction, input: `${a} - ${b}`, output: `${a - b}` };
  },
  larger(random) {
    const [a, b] = [random.between(10, 99), random.between(10, 99)];
    const isLarger = random.next() < 0.5;
    const instruction = isLarger ? 'Which number is larger?' : 'Which number is smaller?';
    return {
      key: `${isLarger} ${a} ${b}`,
      instruction,
      input: `${a}, ${b}`,
      output: `${isLarger ? Math.max(a, b) : Math.min(a, b)}`,
    };
  },
  parity(random) {
    const n = random.between(100, 999);
    const instruction = random.pick(['Is the number even or odd?', 'Say whether this number is even or odd.']);
    return { key: `${n}`, instruction, input: `${n}`, output: n % 2 === 0 ? 'even' : 'odd' };
  },
  sort(random) {
    const items = distinct(random, [1, 2, 3, 4, 5, 6, 7, 8, 9], random.between(3, 5));
    const instruction = random.pick(['Sort the numbers from small to large.', 'Put the numbers in rising order.']);
    return {
      key: items.join(' '),
      instruction,
      input: items.join(' '),
      output: [...items].sort((a, b) => a - b).join(' '),
    };
  },
  maximum(random) {
    const items = distinct(random, [1, 2, 3, 4, 5, 6, 7, 8, 9], random.between(4, 6));
    const isMax = random.next() < 0.5;
    const instruction = isMax ? 'Give the largest number of the list.' : 'Give the smallest number of the list.';
    return {
      key: `${isMax} ${items.join(' ')}`,
      instruction,
      input: items.join(' '),
      output: `${isMax ? Math.max(...items) : Math.min(...items)}`,
    };
  },
  reverse(random) {
    const word = letters(random, 3, 5);
    const instruction = random.pick(['Write the letters in reverse order.', 'Reverse these letters.']);
    return { key: word.join(''), instruction, input: word.join(' '), output: [...word].reverse().join(' ') };
  },
  capitals(random) {
    const word = letters(random, 3, 6);
    const instruction = random.pick(['Write the letters as capitals.', 'Turn these letters into upper case.']);
    return { key: word.join(''), instruction, input: word.join(' '), output: word.join(' ').toUpperCase() };
  },
  count(random) {
    const items = letters(random, 2, 9);
    const instruction = random.pick(['How many letters are there?', 'Count the letters.']);
    return { key: items.join(''), instruction, input: items.join(' '), output: `${items.length}` };
  },
  pickWord(random) {
    const items = distinct(random, THINGS, random.between(3, 5));
    const isFirst = random.next() < 0.5;
    return {
      key: `${isFirst} ${items.join(' ')}`,
      instruction: isFirst ? 'What is the first word?' : 'What is the last word?',
      input: items.join(' '),
      output: isFirst ? items[0]! : items.at(-1)!,
    };
  },
  oddOneOut(random) {
    const [kindOfMost, kindOfOne] = distinct(random, [ANIMALS, FOODS, TOOLS, COLOURS], 2);
    const odd = random.pick(kindOfOne!);
    const items = random.shuffle([...distinct(random, kindOfMost!, 3), odd]);
    const instruction = random.pick(['Which word does not belong to the others?', 'Find the odd one out.']);
    return { key: [...items].sort().join(' '), instruction, input: items.join(' '), output: odd };
  },
  classify(random) {
    const [kind, items] = random.pick([
      ['animal', ANIMALS],
      ['food', FOODS],
      ['tool', TOOLS],
      ['colour', COLOURS],
    ] as const);
    const chosen = distinct(random, items, 2);
    const instruction = random.pick(['Are these animals, foods, tools or colours?', 'Name the kind of these things.']);
    return { key: chosen.join(' '), instruction, input: chosen.join(' and '), output: kind };
  },
  date(random) {
    const [day, month, year] = [random.between(1, 28), random.below(12), random.between(1950, 2049)];
    const iso = `${year}-${String(month + 1).padStart(2, '0')}-${String(day).padStart(2, '0')}`;
    const instruction = random.pick(['Which month is this date in?', 'Name the month of this date.']);
    return { key: iso, instruction, input: iso, output: MONTHS[month]! };
  },
  nextMonth(random) {
    const [day, month] = [random.between(1, 28), random.below(12)];
    const isAfter = random.next() < 0.5;
    return {
      key: `${isAfter} ${day} ${month}`,
      instruction: isAfter ? 'Which date is one month later?' : 'Which date is one month earlier?',
      input: `${day} ${MONTHS[month]!}`,
      output: `${day} ${MONTHS[(month + (isAfter ? 1 : 11)) % 12]!}`,
    };
  },
  units(random) {
    const [large, small, factor] = random.pick([
      ['m', 'cm', 100],
      ['km', 'm', 1000],
      ['kg', 'g', 1000],
      ['cm', 'mm', 10],
    ] as const);
    const n = random.between(1, 99);
    const instruction = `Convert to ${small}.`;
    return { key: `${n} ${large} ${small}`, instruction, input: `${n} ${large}`, output: `${n * factor} ${small}` };
  },
  sequence(random) {
    const [start, step] = [random.between(1, 30), random.between(1, 5)];
    const terms = [0, 1, 2].map((index) => start + index * step);
    const instruction = random.pick(['Which number comes next?', 'Continue the sequence by one number.']);
    return { key: terms.join(' '), instruction, input: terms.join(' '), output: `${start + 3 * step}` };
  },
};
