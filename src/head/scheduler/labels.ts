// Label selectors in Ray's notation: "v", "!v", "in(a,b)", "!in(a,b)"; and "exists()", "!exists()".

/** The label that every node has without being asked: its id. */
export const NODE_ID_LABEL = 'raylite.io/node-id';

export type Labels = Readonly<Record<string, string>>;

/** Whether `rule` is one that {@link labelTest} knows. */
export const isLabelRule = (rule: string): boolean => /^!?(in\([^()]*\)|exists\(\)|[^()!]*)$/.test(rule);

interface Labelled {
  readonly nodeId: string;
  readonly labels: Labels;
}

/** The value that a rule is about; its own id is a node's label too. */
export const labelOf = ({ nodeId, labels }: Labelled, key: string): string | undefined =>
  key === NODE_ID_LABEL ? nodeId : labels[key];

/** Whether a node satisfies every entry of `selector`. An absent label equals no value. */
export function labelTest(selector: Labels): (node: Labelled) => boolean {
  const rules = Object.entries(selector).map(([key, rule]) => ({ key, allows: ruleTest(rule) }));
  return (node) => rules.every(({ key, allows }) => allows(labelOf(node, key)));
}

/** The entries of `selector` that the node does not satisfy. */
export const unmetRules = (selector: Labels, node: Labelled): readonly (readonly [key: string, rule: string])[] =>
  Object.entries(selector).filter(([key, rule]) => !ruleTest(rule)(labelOf(node, key)));

function ruleTest(rule: string): (value: string | undefined) => boolean {
  const isNegated = rule.startsWith('!');
  const body = isNegated ? rule.slice(1) : rule;
  if (body === 'exists()') return (value) => isNegated === (value === undefined);
  const list = /^in\((.*)\)$/.exec(body);
  const wanted = list ? list[1]!.split(',').map((part) => part.trim()) : [body];
  return (value) => isNegated !== (value !== undefined && wanted.includes(value));
}
