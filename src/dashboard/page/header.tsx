// The top of the page: which cluster, how much of it is in use, whether what is shown is live.
import { resource } from './format.js';
import type { Connection, Snapshot } from './live.js';

const WORDS: Readonly<Record<Connection, string>> = {
  connecting: 'connecting',
  live: 'live',
  lost: 'connection lost, trying again',
};

export function Header(props: { readonly snapshot: Snapshot | null; readonly connection: Connection }) {
  const cluster = props.snapshot?.cluster;
  return (
    <header class="top">
      <h1>
        <svg viewBox="0 0 24 24" aria-hidden="true">
          <path d="M3 20 L12 3 L21 20" />
          <circle cx="12" cy="3" r="2" />
          <circle cx="3" cy="20" r="2" />
          <circle cx="21" cy="20" r="2" />
        </svg>
        raylite
      </h1>
      {cluster && (
        <dl class="facts">
          <Fact name="head" value={cluster.headAddress} />
          <Fact name="nodes" value={String(cluster.nodeCount)} />
          {Object.entries(cluster.total).map(([name, total]) => (
            <Fact
              key={name}
              name={name}
              value={`${resource(name, cluster.used[name] ?? 0)} / ${resource(name, total)}`}
            />
          ))}
        </dl>
      )}
      <span class={`connection ${props.connection}`} role="status">
        {WORDS[props.connection]}
      </span>
    </header>
  );
}

function Fact(props: { readonly name: string; readonly value: string }) {
  return (
    <div>
      <dt>{props.name}</dt>
      <dd>{props.value}</dd>
    </div>
  );
}
