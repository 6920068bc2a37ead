// One card a node: what of it is held by work, and what the machine itself reports.
import { bytes, resource } from './format.js';
import type { NodeView } from './live.js';
import { Bar, Panel, State } from './parts.js';

export function NodeCards({ nodes }: { readonly nodes: readonly NodeView[] }) {
  const shown = nodes.filter((node) => node.state !== 'DEAD');
  const lost = nodes.length - shown.length;
  return (
    <Panel title="Nodes" note={`${shown.length} in the cluster${lost > 0 ? `, ${lost} lost or left` : ''}`}>
      {shown.length === 0 && <p class="empty">No node has joined.</p>}
      <div class="cards">
        {shown.map((node) => (
          <NodeCard key={node.nodeId} node={node} />
        ))}
      </div>
    </Panel>
  );
}

function NodeCard({ node }: { readonly node: NodeView }) {
  const { beat } = node;
  return (
    <article class="card">
      <div class="card-head">
        <strong>{node.hostname}</strong>
        {node.isHead && <span class="tag">head</span>}
        <State name={node.state} />
      </div>
      <p class="mono dim">
        {node.nodeId} · {node.host || 'this machine only'}
      </p>
      {Object.entries(node.total).map(([name, total]) => (
        <Bar
          key={name}
          label={name}
          used={node.used[name] ?? 0}
          total={total}
          text={`${resource(name, node.used[name] ?? 0)} / ${resource(name, total)}`}
        />
      ))}
      {beat && (
        <>
          <hr />
          <Bar label="cpu load" used={beat.cpuPercent} total={100} text={`${Math.round(beat.cpuPercent)} %`} />
          <Bar
            label="ram"
            warns
            used={beat.memoryUsedBytes}
            total={beat.memoryTotalBytes}
            text={`${bytes(beat.memoryUsedBytes)} / ${bytes(beat.memoryTotalBytes)}`}
          />
          <Bar
            label="object store"
            warns
            used={beat.storeUsedBytes}
            total={beat.storeTotalBytes}
            text={`${bytes(beat.storeUsedBytes)} / ${bytes(beat.storeTotalBytes)}`}
          />
          <p class="dim">{beat.workerCount === 1 ? '1 worker' : `${beat.workerCount} workers`}</p>
        </>
      )}
    </article>
  );
}
