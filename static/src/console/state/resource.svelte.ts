/**
 * Data from the server, with loading and error state; reloaded when one of its topics changes. The present data stays
 * while it reloads. Must be created during component initialization.
 */
import { ApiError } from '../../api/http';
import { live, type Topic } from './live.svelte';

const RETRY_MS = 3_000;

export class Resource<T> {
  data = $state.raw<T | undefined>(undefined);
  error = $state.raw<unknown>(null);
  readonly #fetch: () => Promise<T>;
  #destroyed = false;
  #running = false;
  #reloadRequested = false;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(fetch: () => Promise<T>, topics: readonly Topic[] = []) {
    this.#fetch = fetch;
    $effect(() => {
      const stop = live.subscribe(topics, () => void this.load());
      return () => {
        stop();
        clearTimeout(this.#retry);
        this.#destroyed = true;
      };
    });
    void this.load();
  }

  /** Loads. A call during a load causes one more load after it, so that no change is missed. */
  async load(): Promise<void> {
    if (this.#running) {
      this.#reloadRequested = true;
      return;
    }
    this.#running = true;
    clearTimeout(this.#retry);
    try {
      const data = await this.#fetch();
      if (this.#destroyed) return;
      this.data = data;
      this.error = null;
    } catch (error) {
      if (this.#destroyed) return;
      this.error = error;
      if (error instanceof ApiError && error.offline) this.#retry = setTimeout(() => void this.load(), RETRY_MS);
    } finally {
      this.#running = false;
      if (this.#reloadRequested && !this.#destroyed) {
        this.#reloadRequested = false;
        void this.load();
      }
    }
  }
}
