// Small pieces that several panels use.
import type { ComponentChildren } from 'preact';

export function Panel(props: { readonly title: string; readonly note?: string; readonly children: ComponentChildren }) {
  const id = `panel-${props.title.toLowerCase().replace(/\W+/g, '-')}`;
  return (
    <section class="panel" aria-labelledby={id}>
      <div class="panel-head">
        <h2 id={id}>{props.title}</h2>
        {props.note && <span class="note">{props.note}</span>}
      </div>
      {props.children}
    </section>
  );
}

const TONES: Readonly<Record<string, string>> = {
  ALIVE: 'good',
  RUNNING: 'good',
  SUCCEEDED: 'good',
  PENDING: 'wait',
  PENDING_CREATION: 'wait',
  STARTING: 'wait',
  RESTARTING: 'wait',
  AWAY: 'wait',
  FAILED: 'bad',
  DEAD: 'off',
  STOPPED: 'off',
};

/** A state as a word with a coloured dot; the word alone says it all. */
export function State({ name }: { readonly name: string }) {
  return <span class={`state ${TONES[name] ?? 'off'}`}>{name.toLowerCase().replace(/_/g, ' ')}</span>;
}

/** A bar of use beside its figures, which say the same. Drawn as SVG, since the page allows no inline styles. */
export function Bar(props: {
  readonly label: string;
  readonly used: number;
  readonly total: number;
  readonly text: string;
  /** Whether much use is a reason to worry: of memory it is, of what work reserves it is not. */
  readonly warns?: boolean;
}) {
  const share = props.total > 0 ? Math.min(1, props.used / props.total) : 0;
  const tone = !props.warns ? 'low' : share > 0.9 ? 'high' : share > 0.75 ? 'mid' : 'low';
  return (
    <div class="bar">
      <span class="bar-label">{props.label}</span>
      <svg class={`bar-track ${tone}`} viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
        <rect class="track" width="100" height="6" />
        <rect class="fill" width={share * 100} height="6" />
      </svg>
      <span class="bar-text">{props.text}</span>
    </div>
  );
}
