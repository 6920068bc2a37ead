// Asks all nodes what objects they have and who holds them, and waits for their answers for a limited time.
import type { NodeId } from '../common/index.js';
import type { wire } from '../protocol/index.js';

/** Longer than an agent waits for its processes. */
const ANSWER_MS_MAX = 3_000;

export interface SurveyResult {
  readonly nodes: ReadonlyMap<NodeId, wire.NodeObjects.$Properties>;
  /** Those that gave no answer in time. */
  readonly silent: readonly NodeId[];
}
interface Survey {
  readonly missing: Set<NodeId>;
  readonly nodes: Map<NodeId, wire.NodeObjects.$Properties>;
  readonly done: () => void;
}

export class ObjectSurveys {
  readonly #open = new Map<number, Survey>();
  #lastId = 0;

  async ask(nodeIds: Iterable<NodeId>, send: (nodeId: NodeId, id: number) => void): Promise<SurveyResult> {
    const id = ++this.#lastId;
    const missing = new Set(nodeIds);
    const nodes = new Map<NodeId, wire.NodeObjects.$Properties>();
    if (missing.size > 0) {
      await new Promise<void>((done) => {
        const late = setTimeout(done, ANSWER_MS_MAX);
        this.#open.set(id, {
          missing,
          nodes,
          done: () => {
            clearTimeout(late);
            done();
          },
        });
        for (const nodeId of missing) send(nodeId, id);
      });
      this.#open.delete(id);
    }
    return { nodes, silent: [...missing] };
  }

  answered(nodeId: NodeId, { id, node }: wire.ObjectsSurveyed.$Properties): void {
    const survey = this.#open.get(id ?? 0);
    if (!survey?.missing.delete(nodeId)) return;
    survey.nodes.set(nodeId, node ?? {});
    if (survey.missing.size === 0) survey.done();
  }
}
