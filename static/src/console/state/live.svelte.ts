/**
 * Live updates: the server says *what kind of thing* changed, the pages ask again. Without the stream (proxy, sleep)
 * the pages poll, and the stream is tried again.
 */
export type Topic = 'workspaces' | 'sessions' | 'hosts' | 'audit';
const TOPICS: readonly Topic[] = ['workspaces', 'sessions', 'hosts', 'audit'];
const POLL_MS = 5_000;
const RETRY_MS = 3_000;

class Live {
  /** Whether the stream stands. */
  on = $state(false);
  readonly #listeners = new Set<{ topics: readonly Topic[]; act: () => void }>();
  #source: EventSource | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #poll: ReturnType<typeof setInterval> | undefined;

  start(): void {
    if (this.#source) return;
    const source = new EventSource('/api/events');
    this.#source = source;
    source.onopen = () => {
      const missed = !this.on;
      this.on = true;
      clearInterval(this.#poll);
      this.#poll = undefined;
      // Whatever changed while there was no stream.
      if (missed) this.#tell(TOPICS);
    };
    source.onerror = () => {
      this.on = false;
      this.#poll ??= setInterval(() => this.#tell(TOPICS), POLL_MS);
      if (source.readyState !== EventSource.CLOSED) return;
      // A refusal closes it for good (a 401, say). The poll renews the sign-in, then the stream is opened anew.
      this.#source = null;
      this.#timer = setTimeout(() => this.start(), RETRY_MS);
    };
    for (const topic of TOPICS) source.addEventListener(topic, () => this.#tell([topic]));
  }

  stop(): void {
    this.#source?.close();
    this.#source = null;
    this.on = false;
    clearTimeout(this.#timer);
    clearInterval(this.#poll);
    this.#poll = undefined;
  }

  /** Calls `act` when one of the topics changed. The answer ends it. */
  listen(topics: readonly Topic[], act: () => void): () => void {
    const entry = { topics, act };
    this.#listeners.add(entry);
    return () => this.#listeners.delete(entry);
  }

  #tell(changed: readonly Topic[]): void {
    for (const { topics, act } of this.#listeners) if (topics.some((topic) => changed.includes(topic))) act();
  }
}

export const live = new Live();
