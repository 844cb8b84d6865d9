/** Launches in progress: told honestly, second by second, and once only per workspace. */
import * as api from '../../api/calls';
import type { Workspace } from '../../api/types';
import { portal } from '../../lib/strings';
import { toasts } from './toasts.svelte';

class Launches {
  /** Workspace id -> when it was asked for. */
  began = $state<Record<string, number>>({});

  async start(workspace: Pick<Workspace, 'id' | 'name'>): Promise<void> {
    if (this.began[workspace.id] !== undefined) return;
    this.began[workspace.id] = Date.now();
    try {
      const { stream_url } = await api.launch(workspace.id);
      location.assign(stream_url);
      // The entry stays until the page has gone, so that the tile does not fall back for a moment.
      setTimeout(() => delete this.began[workspace.id], 4000);
    } catch (error) {
      delete this.began[workspace.id];
      toasts.failed(error, portal.launchFailed(workspace.name));
    }
  }
}

export const launches = new Launches();
addEventListener('pageshow', () => (launches.began = {}));
