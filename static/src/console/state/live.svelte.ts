/**
 * Live updates: server-sent events name the topics that changed, and subscribers reload. While the stream is down,
 * subscribers poll and the stream is reopened.
 */
export type Topic = 'workspaces' | 'sessions' | 'hosts' | 'audit';
const TOPICS: readonly Topic[] = ['workspaces', 'sessions', 'hosts', 'audit'];
const POLL_MS = 5_000;
const RETRY_MS = 3_000;

class Live {
  /** Whether the event stream is open. */
  connected = $state(false);
  readonly #listeners = new Set<{ topics: readonly Topic[]; act: () => void }>();
  #source: EventSource | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #poll: ReturnType<typeof setInterval> | undefined;

  start(): void {
    if (this.#source) return;
    const source = new EventSource('/api/events');
    this.#source = source;
    source.onopen = () => {
      const missed = !this.connected;
      this.connected = true;
      clearInterval(this.#poll);
      this.#poll = undefined;
      // Changes during the outage.
      if (missed) this.#notify(TOPICS);
    };
    source.onerror = () => {
      this.connected = false;
      this.#poll ??= setInterval(() => this.#notify(TOPICS), POLL_MS);
      if (source.readyState !== EventSource.CLOSED) return;
      // An HTTP error such as 401 closes the EventSource. A poll refreshes the tokens, then a new stream is opened.
      this.#source = null;
      this.#timer = setTimeout(() => this.start(), RETRY_MS);
    };
    for (const topic of TOPICS) source.addEventListener(topic, () => this.#notify([topic]));
  }

  stop(): void {
    this.#source?.close();
    this.#source = null;
    this.connected = false;
    clearTimeout(this.#timer);
    clearInterval(this.#poll);
    this.#poll = undefined;
  }

  /** Calls `act` when one of the topics changed; returns the unsubscribe function. */
  subscribe(topics: readonly Topic[], act: () => void): () => void {
    const entry = { topics, act };
    this.#listeners.add(entry);
    return () => this.#listeners.delete(entry);
  }

  #notify(changed: readonly Topic[]): void {
    for (const { topics, act } of this.#listeners) if (topics.some((topic) => changed.includes(topic))) act();
  }
}

export const live = new Live();
