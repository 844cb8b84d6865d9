/** Launches in progress, at most one per workspace. */
import * as api from '../../api/calls';
import type { Workspace } from '../../api/types';
import { portal } from '../../lib/strings';
import { toasts } from './toasts.svelte';

class Launches {
  /** Workspace id -> start of the launch. */
  startedAt = $state<Record<string, number>>({});

  /** A desktop that does not answer: its user chooses between it and a new one. */
  offered = $state.raw<{ workspace: Pick<Workspace, 'id' | 'name'>; url: string; text: string } | null>(null);

  async start(workspace: Pick<Workspace, 'id' | 'name'>, replace = false): Promise<void> {
    if (this.startedAt[workspace.id] !== undefined) return;
    this.startedAt[workspace.id] = Date.now();
    try {
      const { stream_url, replacement } = await api.launch(workspace.id, replace);
      if (replacement && !replace) {
        delete this.startedAt[workspace.id];
        this.offered = { workspace, url: stream_url, text: replacement.message };
        return;
      }
      location.assign(stream_url);
      // The entry stays until the navigation, so that the tile does not change back for a moment.
      setTimeout(() => delete this.startedAt[workspace.id], 4000);
    } catch (error) {
      delete this.startedAt[workspace.id];
      toasts.failed(error, portal.launchFailed(workspace.name));
    }
  }
}

export const launches = new Launches();
addEventListener('pageshow', () => (launches.startedAt = {}));
