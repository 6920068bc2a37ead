// Draws the losses of a run as an SVG picture: every step faint, their running mean on top. Pure.

const WIDTH = 720;
const HEIGHT = 360;
const LEFT = 56;
const RIGHT = 16;
const TOP = 40;
const BOTTOM = 44;

/** An SVG document of `losses` (step 1 first), with `title` above. */
export function lossCurve(losses: readonly number[], title: string): string {
  const high = Math.max(...losses) * 1.02;
  const low = Math.min(0, ...losses);
  const x = (index: number): number => LEFT + ((WIDTH - LEFT - RIGHT) * index) / Math.max(1, losses.length - 1);
  const y = (loss: number): number => TOP + ((HEIGHT - TOP - BOTTOM) * (high - loss)) / Math.max(1e-9, high - low);
  const path = (values: readonly number[]): string =>
    values.map((value, index) => `${index === 0 ? 'M' : 'L'}${x(index).toFixed(1)} ${y(value).toFixed(1)}`).join('');
  const grid = ticks(low, high, 5)
    .map(
      (loss) =>
        `<path d="M${LEFT} ${y(loss).toFixed(1)}H${WIDTH - RIGHT}" stroke="#8884"/>` +
        `<text x="${LEFT - 8}" y="${(y(loss) + 4).toFixed(1)}" text-anchor="end">${Number(loss.toPrecision(3))}</text>`,
    )
    .join('');
  const steps = ticks(1, losses.length, 6)
    .filter(Number.isInteger)
    .map(
      (step) => `<text x="${x(step - 1).toFixed(1)}" y="${HEIGHT - BOTTOM + 20}" text-anchor="middle">${step}</text>`,
    )
    .join('');
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="12" fill="#777">
<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>
<text x="${LEFT}" y="24" font-size="15" fill="#222">${escapeXml(title)}</text>
${grid}
${steps}
<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 8}" text-anchor="middle">optimizer step</text>
<text transform="translate(14 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">loss, nats per token</text>
<path d="${path(losses)}" fill="none" stroke="#4c8bf5" stroke-opacity=".3"/>
<path d="${path(runningMean(losses))}" fill="none" stroke="#1a56c4" stroke-width="2"/>
</svg>
`;
}

/** Mean with weights that halve every 2 % of the run, corrected for the start. */
function runningMean(losses: readonly number[]): number[] {
  const keep = 0.5 ** (1 / Math.max(1, losses.length / 50));
  let sum = 0;
  let weight = 0;
  return losses.map((loss) => {
    sum = keep * sum + loss;
    weight = keep * weight + 1;
    return sum / weight;
  });
}

/** About `count` round numbers from `low` to `high`. */
function ticks(low: number, high: number, count: number): number[] {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough) ?? rough;
  const first = Math.ceil(low / step);
  return Array.from(
    { length: Math.max(0, Math.floor(high / step) - first + 1) },
    (_unused, index) => (first + index) * step,
  );
}

const escapeXml = (text: string): string => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
