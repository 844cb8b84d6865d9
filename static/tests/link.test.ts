import { describe, expect, it, vi } from 'vitest';
import { ApiError } from '../src/api/http';
import type { Session } from '../src/api/types';
import { Link, type LinkState } from '../src/viewer/core/link';
import type { Closed, Protocol, ProtocolEvents } from '../src/viewer/core/protocol';

const live = { id: 's', status: 'active', workspace_name: 'Linux Desktop' } as Session;

/** A link with everything around it pretended: time moves by `pass`, sockets by `sockets[n]`. */
function setUp() {
  let now = 1_000_000;
  let timers: { at: number; act: () => void }[] = [];
  const sockets: (ProtocolEvents & { protocol: Protocol; url: string })[] = [];
  const states: LinkState[] = [];
  const pictures: unknown[] = [];
  const session = vi.fn(async (): Promise<Session> => live);
  const ticket = vi.fn(async () => ({ ticket: 't', expires_at: '', url: '/stream' }));
  const link = new Link(
    {
      session,
      ticket,
      protocol: async () => (url, events) => {
        const protocol = {
          close: vi.fn(() => events.closed({ code: 0, reason: '', lastPicture: null })),
          setSizing() {}, setQuality() {}, setKeyboardMode() {}, sendChord() {}, sendText() {}, setRemoteClipboard() {}, focus() {},
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
    { state: (state) => states.push(state), session() {}, picture: (canvas) => pictures.push(canvas), clipboard() {}, pinched() {}, restless() {} },
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
    link.start();
    await settle();
    sockets[0]?.connected();
    await settle();
  };
  const drop = (how: Partial<Closed>) => sockets.at(-1)?.closed({ code: 1006, reason: '', lastPicture: null, ...how });
  return { link, sockets, states, pictures, session, ticket, settle, pass, connected, drop, waiting: () => timers.length };
}

describe('the link of the viewer', () => {
  it('asks for the session, takes a ticket and connects', async () => {
    const t = setUp();
    await t.connected();
    expect(t.sockets[0]?.url).toBe('/stream?ticket=t');
    expect(t.states.map(({ kind }) => kind)).toEqual(['opening', 'connected']);
  });

  it('keeps the last picture and reconnects with a new ticket', async () => {
    const t = setUp();
    await t.connected();
    const picture = {} as HTMLCanvasElement;
    t.drop({ lastPicture: picture });
    expect(t.link.state.kind).toBe('reconnecting');
    expect(t.pictures).toEqual([picture]);
    await t.pass(200);
    expect(t.ticket).toHaveBeenCalledTimes(2);
    t.sockets[1]?.connected();
    expect(t.link.state.kind).toBe('connected');
  });

  it('never waits longer than two seconds between attempts, and counts from when the picture stopped', async () => {
    const t = setUp();
    await t.connected();
    t.session.mockRejectedValue(new ApiError(0, 'No connection'));
    t.drop({});
    const since = t.link.state.kind === 'reconnecting' ? t.link.state.since : 0;
    await t.pass(60_000);
    const before = t.session.mock.calls.length;
    await t.pass(2_000);
    expect(t.session.mock.calls.length).toBeGreaterThan(before);
    expect(t.link.state).toMatchObject({ kind: 'reconnecting', since });
  });

  it('tries at once when the network is back', async () => {
    const t = setUp();
    await t.connected();
    t.session.mockRejectedValue(new ApiError(0, 'No connection'));
    t.drop({});
    await t.pass(20_000);
    t.session.mockResolvedValue(live);
    t.link.nudge();
    await t.settle();
    expect(t.sockets.length).toBe(2);
  });

  it('has one attempt in the air, however often it is nudged', async () => {
    const t = setUp();
    t.link.start();
    t.link.nudge();
    t.link.nudge();
    await t.settle();
    t.link.nudge();
    await t.settle();
    expect(t.sockets.length).toBe(1);
  });

  it('ends at once on 4000, with the reason of the close frame, and stays ended', async () => {
    const t = setUp();
    await t.connected();
    t.drop({ code: 4000, reason: 'admin_stopped' });
    expect(t.link.state).toEqual({ kind: 'ended', reason: 'admin_stopped' });
    await t.pass(60_000);
    expect(t.sockets.length).toBe(1);
    expect(t.waiting()).toBe(0);
  });

  it.each([
    [4001, '', { kind: 'signed_out' }],
    [4003, '', { kind: 'crowded' }],
    [4004, 'certificate_changed', { kind: 'certificate' }],
    [4005, 'ask', { kind: 'credential', source: 'ask', refused: false, why: '' }],
    [4005, 'user', { kind: 'credential', source: 'user', refused: false, why: '' }],
    [4005, 'workspace', { kind: 'refused', why: '' }],
    [4006, 'ask wrong_password', { kind: 'credential', source: 'ask', refused: true, why: 'wrong_password' }],
    [4006, 'user account_locked', { kind: 'credential', source: 'user', refused: true, why: 'account_locked' }],
    [4006, 'workspace password_expired', { kind: 'refused', why: 'password_expired' }],
    [4007, 'policy', { kind: 'forbidden', why: 'policy' }],
    [4007, 'redirected', { kind: 'forbidden', why: 'redirected' }],
    [4008, 'desktop_taken_over', { kind: 'left', why: 'desktop_taken_over' }],
  ])('stops on close code %i %s as %j', async (code, reason, state) => {
    const t = setUp();
    await t.connected();
    t.drop({ code, reason });
    expect(t.link.state).toEqual(state);
    await t.pass(60_000);
    expect(t.sockets.length).toBe(1);
    expect(t.waiting()).toBe(0);
  });

  it('goes on with a new ticket once the person has said who they are', async () => {
    const t = setUp();
    await t.connected();
    t.drop({ code: 4005, reason: 'ask' });
    t.link.start();
    await t.settle();
    t.sockets[1]?.connected();
    expect(t.link.state.kind).toBe('connected');
    expect(t.ticket).toHaveBeenCalledTimes(2);
  });

  it('comes back at once, in the new size, when a desktop cannot follow the window', async () => {
    const t = setUp();
    await t.connected();
    t.drop({ code: 0, because: 'resize' });
    await t.pass(0);
    expect(t.sockets.length).toBe(2);
  });

  it('does not fight with whoever took the desktop over', async () => {
    const t = setUp();
    await t.connected();
    t.drop({ code: 0, because: 'left' });
    expect(t.link.state.kind).toBe('left');
    await t.pass(60_000);
    expect(t.sockets.length).toBe(1);
  });

  it.each([
    ['host: the host has not answered for 20 s', { leg: 'host', text: 'the host has not answered for 20 s' }],
    ['desktop: connection refused', { leg: 'desktop', text: 'connection refused' }],
    ['', { leg: 'desktop', text: '' }],
    ['retry', null],
  ])('names the leg that failed: %j', async (reason, trouble) => {
    const t = setUp();
    await t.connected();
    t.drop({ code: 4002, reason });
    expect(t.link.state).toMatchObject({ kind: 'reconnecting', trouble });
  });

  it('blames the way to the gateway when nothing answers', async () => {
    const t = setUp();
    await t.connected();
    t.session.mockRejectedValue(new ApiError(0, 'No connection'));
    t.drop({});
    await t.pass(1_000);
    expect(t.link.state).toMatchObject({ kind: 'reconnecting', trouble: { leg: 'gateway' } });
  });

  it.each([1001, 1006, 1011, 4002])('retries on close code %i', async (code) => {
    const t = setUp();
    await t.connected();
    t.drop({ code });
    expect(t.link.state.kind).toBe('reconnecting');
    await t.pass(3_000);
    expect(t.sockets.length).toBe(2);
  });

  it('learns the end from the session before it knocks again', async () => {
    const t = setUp();
    await t.connected();
    t.session.mockResolvedValue({ ...live, status: 'terminated', end_reason: 'expired' });
    t.drop({ code: 1006 });
    await t.pass(500);
    expect(t.link.state).toEqual({ kind: 'ended', reason: 'expired' });
    expect(t.ticket).toHaveBeenCalledTimes(1);
  });

  it.each([
    [401, 'signed_out'],
    [404, 'missing'],
  ])('takes status %i as %s', async (status, kind) => {
    const t = setUp();
    t.session.mockRejectedValue(new ApiError(status, ''));
    t.link.start();
    await t.settle();
    expect(t.link.state.kind).toBe(kind);
  });

  it('waits for a desktop that is still being created', async () => {
    const t = setUp();
    t.session.mockResolvedValueOnce({ ...live, status: 'creating' });
    t.link.start();
    await t.settle();
    expect(t.link.state.kind).toBe('opening');
    expect(t.sockets.length).toBe(0);
    await t.pass(1_000);
    expect(t.sockets.length).toBe(1);
  });

  it('goes on when the gateway is only busy', async () => {
    const t = setUp();
    t.session.mockRejectedValueOnce(new ApiError(503, ''));
    t.link.start();
    await t.settle();
    expect(t.link.state.kind).toBe('opening');
    await t.pass(1_000);
    expect(t.sockets.length).toBe(1);
  });

  it('gives up a stream whose gateway no longer answers, although the socket seems open', async () => {
    const t = setUp();
    await t.connected();
    t.session.mockRejectedValue(new ApiError(0, 'No answer in time'));
    await t.pass(6_500);
    expect(t.sockets[0]?.protocol.close).toHaveBeenCalled();
    expect(t.link.state.kind).toBe('reconnecting');
  });

  it('closes the stream when a poll says that the session is over', async () => {
    const t = setUp();
    await t.connected();
    t.session.mockResolvedValue({ ...live, status: 'terminated', end_reason: 'host_lost' });
    await t.pass(5_000);
    expect(t.link.state).toEqual({ kind: 'ended', reason: 'host_lost' });
    expect(t.sockets[0]?.protocol.close).toHaveBeenCalled();
  });

  it('ignores what an older stream still says', async () => {
    const t = setUp();
    await t.connected();
    t.drop({});
    await t.pass(200);
    t.sockets[1]?.connected();
    t.sockets[0]?.closed({ code: 4000, reason: 'expired', lastPicture: null });
    expect(t.link.state.kind).toBe('connected');
  });
});
