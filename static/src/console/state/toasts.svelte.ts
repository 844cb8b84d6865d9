/** Short messages after an act. Errors stay until closed; good news goes by itself. */
import { explain } from '../../lib/explain';

export interface Toast {
  id: number;
  kind: 'ok' | 'bad';
  title: string;
  text: string | null;
  small: string | null;
}

const SHOWN_MS = 4_500;
const MOST = 4;

class Toasts {
  list = $state<Toast[]>([]);
  #next = 1;

  ok(title: string): void {
    const id = this.#add({ kind: 'ok', title, text: null, small: null });
    setTimeout(() => this.close(id), SHOWN_MS);
  }

  failed(error: unknown, title?: string): void {
    const { title: what, hint, detail, requestId } = explain(error);
    this.#add({ kind: 'bad', title: title ?? what, text: detail ?? hint, small: requestId });
  }

  close(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id);
  }

  #add(toast: Omit<Toast, 'id'>): number {
    const id = this.#next++;
    this.list = [...this.list.slice(1 - MOST), { ...toast, id }];
    return id;
  }
}

export const toasts = new Toasts();
