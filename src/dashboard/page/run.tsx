// A training run as it goes: its loss curve, and the figures that people look at.
import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { bytes, count, seconds } from './format.js';
import { ask, type RunPoint, type RunView } from './live.js';
import { Panel, State } from './parts.js';

const CHART_HEIGHT = 260;

export function RunPanel({ runs }: { readonly runs: readonly RunView[] }) {
  const [chosenId, setChosenId] = useState<string | null>(null);
  const run = runs.find(({ latest }) => latest.runId === chosenId) ?? runs[0];
  if (!run) return null;
  const { latest } = run;
  const share = latest.totalSteps > 0 ? latest.step / latest.totalSteps : 0;
  return (
    <Panel title="Training" note={`${count(latest.step)} of ${count(latest.totalSteps)} steps`}>
      <div class="run-head">
        {runs.length > 1 ? (
          <label>
            Run{' '}
            <select value={latest.runId} onChange={(event) => setChosenId(event.currentTarget.value)}>
              {runs.map((other) => (
                <option key={other.latest.runId} value={other.latest.runId}>
                  {other.latest.name} ({other.latest.runId})
                </option>
              ))}
            </select>
          </label>
        ) : (
          <strong>{latest.name}</strong>
        )}
        <State name={latest.state} />
        <progress max={1} value={share} aria-label="steps done" />
      </div>
      {latest.message && <p class="why">{latest.message}</p>}
      <dl class="figures">
        <Figure name="loss" value={latest.loss?.toFixed(4)} />
        <Figure name="held-out loss" value={latest.evalLoss?.toFixed(4)} />
        <Figure
          name="tokens/s"
          value={latest.tokensPerSecond === undefined ? undefined : count(latest.tokensPerSecond)}
        />
        <Figure name="time left" value={latest.etaSeconds === undefined ? undefined : seconds(latest.etaSeconds)} />
        <Figure name="learning rate" value={latest.learningRate?.toExponential(2)} />
        <Figure name="loss scale" value={latest.lossScale?.toString()} />
        <Figure name="skipped steps" value={latest.skippedSteps?.toString()} />
        <Figure name="memory" value={memoryOf(latest)} />
        <Figure name="workers" value={latest.workers?.toString()} />
        <Figure name="restarts" value={latest.restarts?.toString()} />
      </dl>
      <LossCurve runId={latest.runId} step={latest.step} state={latest.state} />
    </Panel>
  );
}

function memoryOf(latest: RunView['latest']): string | undefined {
  if (latest.memoryBytes === undefined) return undefined;
  return latest.estimateBytes === undefined
    ? bytes(latest.memoryBytes)
    : `${bytes(latest.memoryBytes)} of ${bytes(latest.estimateBytes)} planned`;
}

function Figure(props: { readonly name: string; readonly value: string | undefined }) {
  if (props.value === undefined) return null;
  return (
    <div>
      <dt>{props.name}</dt>
      <dd>{props.value}</dd>
    </div>
  );
}

/** Asks for the curve whenever the run has moved; the head keeps it small. */
function LossCurve(props: { readonly runId: string; readonly step: number; readonly state: string }) {
  const [points, setPoints] = useState<readonly RunPoint[]>([]);
  const box = useRef<HTMLDivElement>(null);
  const isDark = useDarkness();
  useEffect(() => {
    let isGone = false;
    ask<{ readonly points: readonly RunPoint[] }>(`/api/runs/${encodeURIComponent(props.runId)}`).then(
      (run) => {
        if (!isGone) setPoints(run.points);
      },
      () => {}, // the head is away: the curve stays as it was, the header says so
    );
    return () => {
      isGone = true;
    };
  }, [props.runId, props.step, props.state]);
  useEffect(() => {
    const place = box.current;
    if (!place || points.length === 0) return;
    const chart = new uPlot(chartOptions(place.clientWidth, points), dataOf(points), place);
    const watch = new ResizeObserver(() => chart.setSize({ width: place.clientWidth, height: CHART_HEIGHT }));
    watch.observe(place);
    return () => {
      watch.disconnect();
      chart.destroy();
    };
  }, [points, isDark]);
  const last = points.at(-1);
  const words = last
    ? `Loss over ${points.length} points, now ${last.loss?.toFixed(4) ?? 'unknown'} at step ${last.step}`
    : 'No loss yet';
  return <div class="chart" ref={box} role="img" aria-label={words} />;
}

const dataOf = (points: readonly RunPoint[]): uPlot.AlignedData => [
  points.map((point) => point.step),
  points.map((point) => point.loss),
  points.map((point) => point.evalLoss),
];

function chartOptions(width: number, points: readonly RunPoint[]): uPlot.Options {
  const colour = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = {
    stroke: colour('--dim'),
    grid: { stroke: colour('--line'), width: 1 },
    ticks: { stroke: colour('--line') },
  };
  const value = (_: uPlot, raw: number | null): string => (raw === null || raw === undefined ? '–' : raw.toFixed(4));
  return {
    width,
    height: CHART_HEIGHT,
    scales: { x: { time: false } },
    axes: [
      { ...axis, label: 'step', labelSize: 20 },
      { ...axis, label: 'loss', size: 56 },
    ],
    series: [
      { label: 'step' },
      { label: 'loss', stroke: colour('--accent'), width: 2, value, points: { show: points.length < 2 } },
      ...(points.some((point) => point.evalLoss !== null)
        ? [{ label: 'held-out', stroke: colour('--second'), width: 2, value, spanGaps: true, points: { show: true } }]
        : [{ label: 'held-out', show: false }]),
    ],
  };
}

function useDarkness(): boolean {
  const query = window.matchMedia('(prefers-color-scheme: dark)');
  const [isDark, setIsDark] = useState(query.matches);
  useEffect(() => {
    const listen = (event: MediaQueryListEvent): void => setIsDark(event.matches);
    query.addEventListener('change', listen);
    return () => query.removeEventListener('change', listen);
  }, []);
  return isDark;
}
