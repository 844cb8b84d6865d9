/**
 * A log, read newest first and a page at a time: what is shown, whether there is older, whether newer came since.
 * An answer that a later question has overtaken is dropped. It is shown by `State`, like a `Resource`.
 */
import { toasts } from './toasts.svelte';
import * as api from '../../api/calls';

const MORE = 200;

export interface LogPage<Row> {
  rows: Row[];
  next: string | null;
}

/** Asks for a page: after `cursor`, of `limit` rows. Null when there is nothing to ask for. */
type Ask<Row> = (cursor?: string, limit?: number) => Promise<LogPage<Row>> | null;

export class Log<Row extends { seq: number }> {
  data = $state.raw<Row[] | undefined>(undefined);
  cursor = $state<string | null>(null);
  error = $state.raw<unknown>(null);
  /** There are newer rows than those shown. */
  newer = $state(false);
  loadingMore = $state(false);
  exporting = $state(false);
  readonly #ask: Ask<Row>;
  #turn = 0;

  constructor(ask: Ask<Row>) {
    this.#ask = ask;
  }

  /** Asks for the newest. `quiet`: what is shown stays until they are here. */
  async load(quiet = false): Promise<void> {
    const mine = ++this.#turn;
    if (!quiet) this.data = undefined;
    this.error = null;
    this.newer = false;
    try {
      const page = await this.#ask();
      if (mine !== this.#turn || !page) return;
      this.data = page.rows;
      this.cursor = page.next;
    } catch (cause) {
      if (mine === this.#turn) this.error = cause;
    }
  }

  /** Whether there is a newer row than those shown, now. A question that fails finds none. */
  async hasNewer(): Promise<boolean> {
    const mine = this.#turn;
    const page = await this.#ask(undefined, 1)?.catch(() => null);
    const newest = page?.rows[0];
    return mine === this.#turn && newest !== undefined && newest.seq > (this.data?.[0]?.seq ?? -1);
  }

  /** The next older ones, below those shown. */
  async more(): Promise<void> {
    if (!this.cursor) return;
    this.loadingMore = true;
    const mine = this.#turn;
    try {
      const page = await this.#ask(this.cursor, MORE);
      if (mine !== this.#turn || !page) return;
      this.data = [...(this.data ?? []), ...page.rows];
      this.cursor = page.next;
    } catch (cause) {
      toasts.failed(cause);
    } finally {
      this.loadingMore = false;
    }
  }

  /** Saves what is at `href` as a file of this name. */
  async download(name: string, href: string): Promise<void> {
    this.exporting = true;
    try {
      // Renews the sign-in if it has to be: a download cannot answer a refusal by itself.
      await api.me();
      const link = document.createElement('a');
      link.download = name;
      link.href = href;
      link.click();
    } catch (cause) {
      toasts.failed(cause);
    } finally {
      this.exporting = false;
    }
  }
}
