// Asks all nodes for something that only they know, and waits for their answers for a limited time.
import type { NodeId } from '../common/index.js';

/** Longer than an agent waits for its processes. */
const ANSWER_MS_MAX = 3_000;

export interface SurveyResult<Answer> {
  readonly nodes: ReadonlyMap<NodeId, Answer>;
  /** Those that gave no answer in time. */
  readonly silent: readonly NodeId[];
}
interface Survey<Answer> {
  readonly missing: Set<NodeId>;
  readonly nodes: Map<NodeId, Answer>;
  readonly done: () => void;
}

export class NodeSurveys<Answer> {
  readonly #open = new Map<number, Survey<Answer>>();
  #lastId = 0;

  async ask(nodeIds: Iterable<NodeId>, send: (nodeId: NodeId, id: number) => void): Promise<SurveyResult<Answer>> {
    const id = ++this.#lastId;
    const missing = new Set(nodeIds);
    const nodes = new Map<NodeId, Answer>();
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

  answered(nodeId: NodeId, id: number, answer: Answer): void {
    const survey = this.#open.get(id);
    if (!survey?.missing.delete(nodeId)) return;
    survey.nodes.set(nodeId, answer);
    if (survey.missing.size === 0) survey.done();
  }
}
