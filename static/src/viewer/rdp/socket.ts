/**
 * IronRDP opens its WebSocket itself and does not report how it closed. The build replaces its `new WebSocket` by
 * `openSocket`, so that the close code and reason can be read.
 */
type Watcher = (socket: WebSocket) => void;

const watchers = new Map<string, Watcher>();

/** Passes the socket that will be opened to `url` to `watcher`, before any I/O. */
export function watchSocket(url: string, watcher: Watcher): void {
  watchers.set(url, watcher);
}

/** Called in place of `new WebSocket`. Only registered URLs are opened. */
export function openSocket(url: string): WebSocket {
  const watcher = watchers.get(url);
  if (!watcher) throw new Error('Nobody asked for this connection');
  watchers.delete(url);
  const socket = new WebSocket(url);
  watcher(socket);
  return socket;
}
