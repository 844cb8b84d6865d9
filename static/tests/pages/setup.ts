/** Environment of the component tests: jsdom has no dialogs, no event streams and no scrolling. */
import { cleanup } from '@testing-library/svelte';
import { afterEach, beforeEach, vi } from 'vitest';
import * as api from '../../src/api/calls';
import { account } from '../../src/console/state/account.svelte';
import { router } from '../../src/console/state/router.svelte';
import { toasts } from '../../src/console/state/toasts.svelte';
import { admin } from './fixtures';

HTMLDialogElement.prototype.showModal = function (this: HTMLDialogElement) {
  this.open = true;
};
HTMLDialogElement.prototype.close = function (this: HTMLDialogElement) {
  this.open = false;
};
window.scrollTo = () => {};
vi.stubGlobal('EventSource', class {
  addEventListener() {}
  close() {}
});

beforeEach(() => {
  vi.resetAllMocks();
  // Calls that a test does not care about return empty lists.
  for (const call of [api.activeSessions, api.everyonesSessions, api.workspaces, api.hosts, api.users, api.logins]) vi.mocked(call as () => Promise<unknown[]>).mockResolvedValue([]);
  vi.mocked(api.sessions).mockResolvedValue({ items: [], next: null });
  account.me = admin;
  router.go('/', { replace: true });
});
afterEach(() => {
  cleanup();
  for (const { id } of toasts.list) toasts.close(id);
});
