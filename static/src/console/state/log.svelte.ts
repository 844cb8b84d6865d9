/**
 * A paginated log, newest first. A response that a later request has superseded is dropped. `State` renders it like a
 * `Resource`.
 */
import { toasts } from './toasts.svelte';
import * as api from '../../api/calls';

const PAGE_SIZE = 200;

export interface LogPage<Row> {
  rows: Row[];
  next: string | null;
}

/** Fetches one page: `limit` rows after `cursor`. Null when there is nothing to fetch. */
type FetchPage<Row> = (cursor?: string, limit?: number) => Promise<LogPage<Row>> | null;

export class Log<Row extends { seq: number }> {
  data = $state.raw<Row[] | undefined>(undefined);
  cursor = $state<string | null>(null);
  error = $state.raw<unknown>(null);
  /** There are newer rows than those shown. */
  newer = $state(false);
  loadingMore = $state(false);
  exporting = $state(false);
  readonly #fetchPage: FetchPage<Row>;
  #generation = 0;

  constructor(fetchPage: FetchPage<Row>) {
    this.#fetchPage = fetchPage;
  }

  /** Loads the newest page. `quiet` keeps the present rows until it has arrived. */
  async load(quiet = false): Promise<void> {
    const generation = ++this.#generation;
    if (!quiet) this.data = undefined;
    this.error = null;
    this.newer = false;
    try {
      const page = await this.#fetchPage();
      if (generation !== this.#generation || !page) return;
      this.data = page.rows;
      this.cursor = page.next;
    } catch (cause) {
      if (generation === this.#generation) this.error = cause;
    }
  }

  /** Whether the server has a newer row than those shown. A failed request counts as no. */
  async hasNewer(): Promise<boolean> {
    const generation = this.#generation;
    const page = await this.#fetchPage(undefined, 1)?.catch(() => null);
    const newest = page?.rows[0];
    return generation === this.#generation && newest !== undefined && newest.seq > (this.data?.[0]?.seq ?? -1);
  }

  /** Appends the next older page. */
  async more(): Promise<void> {
    if (!this.cursor) return;
    this.loadingMore = true;
    const generation = this.#generation;
    try {
      const page = await this.#fetchPage(this.cursor, PAGE_SIZE);
      if (generation !== this.#generation || !page) return;
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
      // Refreshes the access token first: a download cannot retry after a 401.
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
