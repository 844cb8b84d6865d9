import { describe, expect, it } from 'vitest';
import { Reloads, closeOf, closeOfRefusal, isOneSite } from '../src/viewer/html5/frame';

describe('what the state of an application means', () => {
  it('goes on while it is open', () => {
    expect(closeOf({ state: 'open' }, true)).toBeNull();
    expect(closeOf({ state: 'open' }, false)).toBeNull();
  });
  it('tells a browser without cookies from a gateway without memory', () => {
    expect(closeOf({ state: 'none' }, true)?.code).toBe(4101);
    expect(closeOf({ state: 'none' }, false)).toEqual({ code: 1001, reason: 'retry' });
  });
  it('names the failing leg when it opens, and leaves its own pages alone later', () => {
    expect(closeOf({ state: 'failing', leg: 'host', detail: 'x' }, true)).toEqual({ code: 4002, reason: 'host: x' });
    expect(closeOf({ state: 'failing', leg: 'application', detail: 'x' }, true)).toEqual({ code: 4002, reason: 'application: x' });
    expect(closeOf({ state: 'failing', detail: 'x' }, false)).toBeNull();
  });
  it('ends with the session', () => {
    expect(closeOf({ state: 'ended', reason: 'expired' }, false)).toEqual({ code: 4000, reason: 'expired' });
    expect(closeOf({ state: 'ended', reason: 'signed_out' }, false)?.code).toBe(4001);
    expect(closeOf({ state: 'ended', reason: 'idle' }, false)?.code).toBe(4100);
    expect(closeOf({ state: 'ended', reason: 'reopen' }, false)?.code).toBe(1001);
  });
});

describe('the way in', () => {
  it('tries again with another ticket, unless there are too many windows', () => {
    expect(closeOfRefusal(409).code).toBe(4003);
    for (const status of [403, 404, 429, 503]) expect(closeOfRefusal(status)).toEqual({ code: 1001, reason: 'retry' });
  });
  it('knows a name below the page’s own from any other', () => {
    expect(isOneSite('https://1.apps.gate.example.com:8443', 'gate.example.com')).toBe(true);
    expect(isOneSite('https://1.apps.localhost:8443', 'localhost')).toBe(false);
    expect(isOneSite('https://1.apps.example.com', 'gate.example.com')).toBe(false);
    expect(isOneSite('https://1.appsgate.example.com', 'gate.example.com')).toBe(false);
  });
});

describe('an application that loads itself again and again', () => {
  it('is told from one that a person clicks through', () => {
    const person = new Reloads();
    for (let n = 0; n < 50; n += 1) expect(person.loaded(n * 500, true)).toBe(false);
    const itself = new Reloads();
    expect([0, 1, 2, 3, 4].map((n) => itself.loaded(n * 2000, false))).toEqual([false, false, false, false, true]);
  });
  it('is told from one that refreshes now and then', () => {
    const refreshing = new Reloads();
    for (let n = 0; n < 50; n += 1) expect(refreshing.loaded(n * 10_000, false)).toBe(false);
  });
});
