// The cluster cannot be reached, cannot start, or could never hold what was asked of it.
import type { GroupId } from '../ids.js';
import { RayliteError } from './base.js';

/** The cluster cannot be reached, refused the token, or runs another version. `detail` says which and what to do. */
export class ConnectionError extends RayliteError {
  readonly code = 'RAYLITE_CONNECTION';
  readonly address: string;
  readonly detail: string;
  constructor(facts: { address: string; detail: string }, options?: ErrorOptions) {
    super(`${facts.address}: ${facts.detail}`, options);
    this.address = facts.address;
    this.detail = facts.detail;
  }
}

/** The head cannot use its saved state: it is damaged, or another head has it open. Nothing was changed on disk. */
export class HeadStateError extends RayliteError {
  readonly code = 'RAYLITE_HEAD_STATE';
  readonly stateDir: string;
  readonly detail: string;
  constructor(facts: { stateDir: string; detail: string }, options?: ErrorOptions) {
    super(`${facts.stateDir}: ${facts.detail}`, options);
    this.stateDir = facts.stateDir;
    this.detail = facts.detail;
  }
}

/** No node of the cluster could ever hold the request. `detail` says what was asked and what there is. */
export class InfeasibleError extends RayliteError {
  readonly code = 'RAYLITE_INFEASIBLE';
  readonly detail: string;
  constructor(facts: { detail: string }, options?: ErrorOptions) {
    super(facts.detail, options);
    this.detail = facts.detail;
  }
}

/** The placement group is gone: it was removed, or its creator or job ended. Work that was to run in it never will. */
export class PlacementGroupRemovedError extends RayliteError {
  readonly code = 'RAYLITE_PLACEMENT_GROUP_REMOVED';
  readonly groupId: GroupId;
  constructor(facts: { groupId: GroupId }, options?: ErrorOptions) {
    super(`placement group ${facts.groupId} was removed, or never was`, options);
    this.groupId = facts.groupId;
  }
}
