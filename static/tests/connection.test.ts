import { describe, expect, it, vi } from 'vitest';
import { ApiError } from '../src/api/http';
import type { Session } from '../src/api/types';
import { ViewerConnection, type ConnectionState } from '../src/viewer/core/connection';
import type { Closed, Protocol, ProtocolEvents } from '../src/viewer/core/protocol';

const live = { id: 's', status: 'active', workspace_name: 'Linux Desktop' } as Session;

/** A connection with fake ports: `pass` advances the clock, `sockets[n]` drives a stream. */
function setUp() {
  let now = 1_000_000;
  let timers: { at: number; act: () => void }[] = [];
  const sockets: (ProtocolEvents & { protocol: Protocol; url: string })[] = [];
  const states: ConnectionState[] = [];
  const pictures: unknown[] = [];
  const session = vi.fn(async (): Promise<Session> => live);
  const ticket = vi.fn(async () => ({ ticket: 't', expires_at: '', url: '/stream', keyboard: null }));
  const connection = new ViewerConnection(
    {
      session,
      ticket,
      protocol: async () => (url, events) => {
        const protocol = {
          close: vi.fn(() => events.closed({ code: 0, reason: '', lastFrame: null })),
          setSizing() {}, setQuality() {}, follow() {}, setDensity() {}, setKeyboardMode() {}, sendChord() {}, sendText() {}, setRemoteClipboard: async () => ({ replaced: '', offered: false }), key() {}, releaseInput() {}, composes: () => false,
        };
        sockets.push({ ...events, protocol, url });
        return protocol;
      },
      streamUrl: ({ url, ticket }) => `${url}?ticket=${ticket}`,
      now: () => now,
      random: () => 0.5,
      later: (ms, act) => {
        const timer = { at: now + ms, act };
        timers.push(timer);
        return () => (timers = timers.filter((other) => other !== timer));
      },
    },
    { state: (state) => states.push(state), session() {}, lastFrame: (canvas) => pictures.push(canvas), clipboard() {}, clipboardLost() {}, pinched() {}, lost() {}, reloadLoop() {} },
  );
  const settle = async () => {
    for (let i = 0; i < 10; i += 1) await Promise.resolve();
  };
  const pass = async (ms: number) => {
    const end = now + ms;
    for (;;) {
      const [next] = timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (!next) break;
      timers = timers.filter((timer) => timer !== next);
      now = next.at;
      next.act();
      await settle();
    }
    now = end;
  };
  const connected = async () => {
    connection.start();
    await settle();
    sockets[0]?.connected();
    await settle();
  };
  const drop = (how: Partial<Closed>) => sockets.at(-1)?.closed({ code: 1006, reason: '', lastFrame: null, ...how });
  return { connection, sockets, states, pictures, session, ticket, settle, pass, connected, drop, waiting: () => timers.length };
}

describe('ViewerConnection', () => {
  it('reads the session, gets a ticket and connects', async () => {
    const t = setUp();
    await t.connected();
    expect(t.sockets[0]?.url).toBe('/stream?ticket=t');
    expect(t.states.map(({ kind }) => kind)).toEqual(['opening', 'connected']);
  });

  it('keeps the last frame and reconnects with a new ticket', async () => {
    const t = setUp();
    await t.connected();
    const picture = {} as HTMLCanvasElement;
    t.drop({ lastFrame: picture });
    expect(t.connection.state.kind).toBe('reconnecting');
    expect(t.pictures).toEqual([picture]);
    await t.pass(200);
    expect(t.ticket).toHaveBeenCalledTimes(2);
    t.sockets[1]?.connected();
    expect(t.connection.state.kind).toBe('connected');
  });

  it('waits at most two seconds between attempts and counts from when the stream broke', async () => {
    const t = setUp();
    await t.connected();
    t.session.mockRejectedValue(new ApiError(0, 'No connection'));
    t.drop({});
    const since = t.connection.state.kind === 'reconnecting' ? t.connection.state.since : 0;
    await t.pass(60_000);
    const before = t.session.mock.calls.length;
    await t.pass(2_000);
    expect(t.session.mock.calls.length).toBeGreaterThan(before);
    expect(t.connection.state).toMatchObject({ kind: 'reconnecting', since });
  });

  it('reconnects at once when the network is back', async () => {
    const t = setUp();
    await t.connected();
    t.session.mockRejectedValue(new ApiError(0, 'No connection'));
    t.drop({});
    await t.pass(20_000);
    t.session.mockResolvedValue(live);
    t.connection.retryNow();
    await t.settle();
    expect(t.sockets.length).toBe(2);
  });

  it('makes one attempt at a time, however often retryNow is called', async () => {
    const t = setUp();
    t.connection.start();
    t.connection.retryNow();
    t.connection.retryNow();
    await t.settle();
    t.connection.retryNow();
    await t.settle();
    expect(t.sockets.length).toBe(1);
  });

  it('ends at once on 4000, with the reason of the close frame, and stays ended', async () => {
    const t = setUp();
    await t.connected();
    t.drop({ code: 4000, reason: 'admin_stopped' });
    expect(t.connection.state).toEqual({ kind: 'ended', reason: 'admin_stopped' });
    await t.pass(60_000);
    expect(t.sockets.length).toBe(1);
    expect(t.waiting()).toBe(0);
  });

  it.each([
    [4001, '', { kind: 'signed_out' }],
    [4003, '', { kind: 'too_many_viewers' }],
    [4004, 'certificate_changed', { kind: 'certificate' }],
    [4005, 'ask', { kind: 'credential', source: 'ask', refused: false, why: '' }],
    [4005, 'user', { kind: 'credential', source: 'user', refused: false, why: '' }],
    [4005, 'workspace', { kind: 'refused', why: '' }],
    [4006, 'ask wrong_password', { kind: 'credential', source: 'ask', refused: true, why: 'wrong_password' }],
    [4006, 'user account_locked', { kind: 'credential', source: 'user', refused: true, why: 'account_locked' }],
    [4006, 'workspace password_expired', { kind: 'refused', why: 'password_expired' }],
    [4007, 'policy', { kind: 'forbidden', why: 'policy' }],
    [4007, 'redirected', { kind: 'forbidden', why: 'redirected' }],
    [4008, 'desktop_taken_over', { kind: 'desktop_closed', why: 'desktop_taken_over' }],
  ])('stops on close code %i %s as %j', async (code, reason, state) => {
    const t = setUp();
    await t.connected();
    t.drop({ code, reason });
    expect(t.connection.state).toEqual(state);
    await t.pass(60_000);
    expect(t.sockets.length).toBe(1);
    expect(t.waiting()).toBe(0);
  });

  it('continues with a new ticket once a credential was entered', async () => {
    const t = setUp();
    await t.connected();
    t.drop({ code: 4005, reason: 'ask' });
    t.connection.start();
    await t.settle();
    t.sockets[1]?.connected();
    expect(t.connection.state.kind).toBe('connected');
    expect(t.ticket).toHaveBeenCalledTimes(2);
  });

  it('reconnects at once when the desktop cannot be resized', async () => {
    const t = setUp();
    await t.connected();
    t.drop({ code: 0, cause: 'resize' });
    await t.pass(0);
    expect(t.sockets.length).toBe(2);
  });

  it('does not reconnect after the desktop was taken over', async () => {
    const t = setUp();
    await t.connected();
    t.drop({ code: 0, cause: 'desktop_closed' });
    expect(t.connection.state.kind).toBe('desktop_closed');
    await t.pass(60_000);
    expect(t.sockets.length).toBe(1);
  });

  it.each([
    ['host: the host has not answered for 20 s', { leg: 'host', text: 'the host has not answered for 20 s' }],
    ['desktop: connection refused', { leg: 'desktop', text: 'connection refused' }],
    ['', { leg: 'desktop', text: '' }],
    ['retry', null],
  ])('names the failed hop: %j', async (reason, failure) => {
    const t = setUp();
    await t.connected();
    t.drop({ code: 4002, reason });
    expect(t.connection.state).toMatchObject({ kind: 'reconnecting', failure });
  });

  it('attributes unanswered requests to the gateway hop', async () => {
    const t = setUp();
    await t.connected();
    t.session.mockRejectedValue(new ApiError(0, 'No connection'));
    t.drop({});
    await t.pass(1_000);
    expect(t.connection.state).toMatchObject({ kind: 'reconnecting', failure: { leg: 'gateway' } });
  });

  it.each([1001, 1006, 1011, 4002])('retries on close code %i', async (code) => {
    const t = setUp();
    await t.connected();
    t.drop({ code });
    expect(t.connection.state.kind).toBe('reconnecting');
    await t.pass(3_000);
    expect(t.sockets.length).toBe(2);
  });

  it('reads the end of the session before it reconnects', async () => {
    const t = setUp();
    await t.connected();
    t.session.mockResolvedValue({ ...live, status: 'terminated', end_reason: 'expired' });
    t.drop({ code: 1006 });
    await t.pass(500);
    expect(t.connection.state).toEqual({ kind: 'ended', reason: 'expired' });
    expect(t.ticket).toHaveBeenCalledTimes(1);
  });

  it.each([
    [401, 'signed_out'],
    [404, 'missing'],
  ])('maps status %i to %s', async (status, kind) => {
    const t = setUp();
    t.session.mockRejectedValue(new ApiError(status, ''));
    t.connection.start();
    await t.settle();
    expect(t.connection.state.kind).toBe(kind);
  });

  it('waits for a desktop that is still being created', async () => {
    const t = setUp();
    t.session.mockResolvedValueOnce({ ...live, status: 'creating' });
    t.connection.start();
    await t.settle();
    expect(t.connection.state.kind).toBe('opening');
    expect(t.sockets.length).toBe(0);
    await t.pass(1_000);
    expect(t.sockets.length).toBe(1);
  });

  it('retries after a 503', async () => {
    const t = setUp();
    t.session.mockRejectedValueOnce(new ApiError(503, ''));
    t.connection.start();
    await t.settle();
    expect(t.connection.state.kind).toBe('opening');
    await t.pass(1_000);
    expect(t.sockets.length).toBe(1);
  });

  it('closes a stream whose gateway no longer answers, although its socket is open', async () => {
    const t = setUp();
    await t.connected();
    t.session.mockRejectedValue(new ApiError(0, 'No answer in time'));
    await t.pass(6_500);
    expect(t.sockets[0]?.protocol.close).toHaveBeenCalled();
    expect(t.connection.state.kind).toBe('reconnecting');
  });

  it('closes the stream when a poll reports the end of the session', async () => {
    const t = setUp();
    await t.connected();
    t.session.mockResolvedValue({ ...live, status: 'terminated', end_reason: 'host_lost' });
    await t.pass(5_000);
    expect(t.connection.state).toEqual({ kind: 'ended', reason: 'host_lost' });
    expect(t.sockets[0]?.protocol.close).toHaveBeenCalled();
  });

  it('ignores events of an older stream', async () => {
    const t = setUp();
    await t.connected();
    t.drop({});
    await t.pass(200);
    t.sockets[1]?.connected();
    t.sockets[0]?.closed({ code: 4000, reason: 'expired', lastFrame: null });
    expect(t.connection.state.kind).toBe('connected');
  });
});
