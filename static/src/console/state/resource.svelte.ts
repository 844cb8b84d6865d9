/**
 * One list from the server: loading, there, or failed; fetched again when its topic changes. What was shown stays
 * shown while it is fetched again, so nothing jumps. Make it while a component is being set up.
 */
import { ApiError } from '../../api/http';
import { live, type Topic } from './live.svelte';

const RETRY_MS = 3_000;

export class Resource<T> {
  data = $state.raw<T | undefined>(undefined);
  error = $state.raw<unknown>(null);
  readonly #fetch: () => Promise<T>;
  #gone = false;
  #running = false;
  #again = false;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(fetch: () => Promise<T>, topics: readonly Topic[] = []) {
    this.#fetch = fetch;
    $effect(() => {
      const stop = live.listen(topics, () => void this.load());
      return () => {
        stop();
        clearTimeout(this.#retry);
        this.#gone = true;
      };
    });
    void this.load();
  }

  /** Fetches. A call during another one makes that one run once more, so the last change is never missed. */
  async load(): Promise<void> {
    if (this.#running) {
      this.#again = true;
      return;
    }
    this.#running = true;
    clearTimeout(this.#retry);
    try {
      const data = await this.#fetch();
      if (this.#gone) return;
      this.data = data;
      this.error = null;
    } catch (error) {
      if (this.#gone) return;
      this.error = error;
      if (error instanceof ApiError && error.offline) this.#retry = setTimeout(() => void this.load(), RETRY_MS);
    } finally {
      this.#running = false;
      if (this.#again && !this.#gone) {
        this.#again = false;
        void this.load();
      }
    }
  }
}
