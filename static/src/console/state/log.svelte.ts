/**
 * A paginated log, newest first. A load gives up the search that is running, here and on the server. `State` renders it
 * like a `Resource`.
 */
import { toasts } from './toasts.svelte';
import * as api from '../../api/calls';

const PAGE_SIZE = 200;

export interface LogPage<Row> {
  rows: Row[];
  next_cursor: string | null;
  /** The search took too long: what is older was not searched yet. */
  searched_to: string | null;
  /** The newest row of the log when the search began. */
  newest_seq: number;
}

/** Fetches a part of the log. Null when there is nothing to fetch. */
type FetchPage<Row> = (part: api.LogPart) => Promise<LogPage<Row>> | null;

export class Log<Row extends { seq: number }> {
  data = $state.raw<Row[] | undefined>(undefined);
  cursor = $state<string | null>(null);
  /** How far back was searched, when there was not enough time for all. */
  searchedTo = $state<string | null>(null);
  error = $state.raw<unknown>(null);
  /** There are newer rows than those shown. */
  newer = $state(false);
  loadingMore = $state(false);
  exporting = $state(false);
  readonly #fetchPage: FetchPage<Row>;
  #generation = 0;
  #newest = 0;
  #search = new AbortController();

  constructor(fetchPage: FetchPage<Row>) {
    this.#fetchPage = fetchPage;
  }

  /** Loads the newest page. `quiet` keeps the present rows until it has arrived. */
  async load(quiet = false): Promise<void> {
    const generation = ++this.#generation;
    this.#search.abort();
    this.#search = new AbortController();
    if (!quiet) this.data = undefined;
    this.error = null;
    this.newer = false;
    try {
      const page = await this.#fetchPage({ signal: this.#search.signal });
      if (generation !== this.#generation || !page) return;
      this.data = page.rows;
      this.#shown(page);
      this.#newest = page.newest_seq;
    } catch (cause) {
      if (generation === this.#generation) this.error = cause;
    }
  }

  /** Gives up what is being searched. */
  stop(): void {
    this.#generation++;
    this.#search.abort();
  }

  #shown(page: LogPage<Row>): void {
    this.cursor = page.next_cursor;
    this.searchedTo = page.searched_to;
  }

  /** Whether the server has a row that came after the load. A failed request counts as no. */
  async hasNewer(): Promise<boolean> {
    const generation = this.#generation;
    const page = await this.#fetchPage({ limit: 1, after: this.#newest, signal: this.#search.signal })?.catch(() => null);
    if (generation !== this.#generation || !page) return false;
    if (page.rows.length > 0) return true;
    // What was searched without a match need not be searched again.
    if (page.searched_to === null) this.#newest = page.newest_seq;
    return false;
  }

  /** Appends the next older page. */
  async more(): Promise<void> {
    if (!this.cursor) return;
    this.loadingMore = true;
    const generation = this.#generation;
    try {
      const page = await this.#fetchPage({ cursor: this.cursor, limit: PAGE_SIZE, signal: this.#search.signal });
      if (generation !== this.#generation || !page) return;
      this.data = [...(this.data ?? []), ...page.rows];
      this.#shown(page);
    } catch (cause) {
      if (generation === this.#generation) toasts.failed(cause);
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
