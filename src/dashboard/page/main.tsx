// The page's entry: keeps the newest snapshot of the cluster and draws it.
import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { ActorsTable } from './actors.js';
import { Header } from './header.js';
import { JobsTable } from './jobs.js';
import { type Connection, connectLive, type Snapshot } from './live.js';
import { NodeCards } from './nodes.js';
import { RunPanel } from './run.js';
import './style.css';

function Page() {
  const [snapshot, setSnapshot] = useState<Snapshot | null>(null);
  const [connection, setConnection] = useState<Connection>('connecting');
  useEffect(() => connectLive(setSnapshot, setConnection), []);
  return (
    <>
      <a class="skip" href="#content">
        Skip to content
      </a>
      <Header snapshot={snapshot} connection={connection} />
      <main id="content">
        {snapshot === null ? (
          <p class="empty">Waiting for the head …</p>
        ) : (
          <>
            <RunPanel runs={snapshot.runs} />
            <NodeCards nodes={snapshot.nodes} />
            <JobsTable jobs={snapshot.jobs} pending={snapshot.cluster.pending} />
            <ActorsTable actors={snapshot.actors} />
          </>
        )}
      </main>
    </>
  );
}

render(<Page />, document.getElementById('root')!);
