// Label selectors in Ray's notation: "v", "!v", "in(a,b)", "!in(a,b)"; and "exists()", "!exists()".

/** The label that every node has without being asked: its id. */
export const NODE_ID_LABEL = 'raylite.io/node-id';

/** Whether `rule` is one that {@link matchesLabels} knows. */
export const isLabelRule = (rule: string): boolean => /^!?(in\([^()]*\)|exists\(\)|[^()!]*)$/.test(rule);

/** Whether a node with `labels` satisfies every entry of `selector`. An absent label equals no value. */
export function matchesLabels(
  selector: Readonly<Record<string, string>>,
  labels: Readonly<Record<string, string>>,
  nodeId: string,
): boolean {
  return Object.entries(selector).every(([key, rule]) => {
    const value = key === NODE_ID_LABEL ? nodeId : labels[key];
    const isNegated = rule.startsWith('!');
    const body = isNegated ? rule.slice(1) : rule;
    if (body === 'exists()') return isNegated === (value === undefined);
    const list = /^in\((.*)\)$/.exec(body);
    const wanted = list ? list[1]!.split(',').map((part) => part.trim()) : [body];
    const isAmong = value !== undefined && wanted.includes(value);
    return isNegated ? !isAmong : isAmong;
  });
}
