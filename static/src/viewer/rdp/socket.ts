/**
 * IronRDP opens its WebSocket itself and tells nothing of how it closed. The build lets it open sockets here, so that
 * the gateway's close code and reason are seen by whoever asked for that address.
 */
type Watcher = (socket: WebSocket) => void;

const watchers = new Map<string, Watcher>();

/** The socket that will be opened to `url` is shown to `watcher`, before anything is sent or received. */
export function watchSocket(url: string, watcher: Watcher): void {
  watchers.set(url, watcher);
}

/** What the component calls in place of `new WebSocket`. Only addresses that somebody waits for are opened. */
export function openSocket(url: string): WebSocket {
  const watcher = watchers.get(url);
  if (!watcher) throw new Error('Nobody asked for this connection');
  watchers.delete(url);
  const socket = new WebSocket(url);
  watcher(socket);
  return socket;
}
