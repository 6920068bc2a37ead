// The actors of the cluster, living ones first.
import { resource } from './format.js';
import type { ActorView } from './live.js';
import { Panel, State } from './parts.js';

const isDead = (actor: ActorView): boolean => actor.state === 'DEAD';

export function ActorsTable({ actors }: { readonly actors: readonly ActorView[] }) {
  const rows = [...actors].sort((a, b) => Number(isDead(a)) - Number(isDead(b)));
  const alive = rows.filter((actor) => !isDead(actor)).length;
  return (
    <Panel title="Actors" note={`${alive} alive or starting`}>
      {rows.length === 0 ? (
        <p class="empty">No actor has been made.</p>
      ) : (
        <div class="scroll">
          <table>
            <thead>
              <tr>
                <th scope="col">Class</th>
                <th scope="col">State</th>
                <th scope="col">Node</th>
                <th scope="col">Pid</th>
                <th scope="col">Holds</th>
                <th scope="col">Restarts</th>
                <th scope="col">Job</th>
                <th scope="col">Why</th>
              </tr>
            </thead>
            <tbody>
              {rows.map((actor) => (
                <tr key={actor.actorId} class={isDead(actor) ? 'ended' : ''}>
                  <td>
                    {actor.className}
                    {actor.name && <span class="dim"> “{actor.name}”</span>}
                  </td>
                  <td>
                    <State name={actor.state} />
                  </td>
                  <td class="mono">{actor.nodeId ?? '–'}</td>
                  <td class="number">{actor.pid ?? '–'}</td>
                  <td>
                    {Object.entries(actor.resources)
                      .map(([name, amount]) => `${resource(name, amount)} ${name}`)
                      .join(', ') || '–'}
                  </td>
                  <td class="number">{actor.restartCount}</td>
                  <td class="mono">{actor.jobId}</td>
                  <td class="why">{actor.reason ?? ''}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Panel>
  );
}
