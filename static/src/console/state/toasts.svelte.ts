/** Notifications. Errors stay until closed; successes disappear after some seconds. */
import { explain } from '../../lib/explain';
import { errors } from '../../lib/strings';

export interface Toast {
  id: number;
  kind: 'ok' | 'bad';
  title: string;
  text: string | null;
  requestId: string | null;
  /** The gateway did not answer. */
  offline?: boolean;
}

const SHOWN_MS = 4_500;
const MAX_TOASTS = 4;

class Toasts {
  list = $state<Toast[]>([]);
  #next = 1;

  ok(title: string): void {
    const id = this.#add({ kind: 'ok', title, text: null, requestId: null });
    setTimeout(() => this.close(id), SHOWN_MS);
  }

  failed(error: unknown, title?: string): void {
    const { title: what, hint, detail, requestId, offline } = explain(error);
    // One event, one notification: a later one replaces it.
    if (offline) this.list = this.list.filter((toast) => !toast.offline);
    this.#add({ kind: 'bad', title: title ?? what, text: offline ? errors.offlineAct : (detail ?? hint), requestId, offline });
  }

  /** Stays until closed. */
  warn(title: string, text: string): void {
    this.#add({ kind: 'bad', title, text, requestId: null });
  }

  close(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id);
  }

  #add(toast: Omit<Toast, 'id'>): number {
    const id = this.#next++;
    this.list = [...this.list.slice(1 - MAX_TOASTS), { ...toast, id }];
    return id;
  }
}

export const toasts = new Toasts();
