import { describe, expect, it } from 'vitest';
import { ReloadDetector, closeOf, closeOfRefusal, isOneSite } from '../src/viewer/html5/frame';

describe('closeOf', () => {
  it('keeps an open application', () => {
    expect(closeOf({ state: 'open' }, true)).toBeNull();
    expect(closeOf({ state: 'open' }, false)).toBeNull();
  });
  it('distinguishes a blocked cookie from a restarted gateway', () => {
    expect(closeOf({ state: 'none' }, true)?.code).toBe(4101);
    expect(closeOf({ state: 'none' }, false)).toEqual({ code: 1001, reason: 'retry' });
  });
  it('names the failed hop only while the application opens', () => {
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

describe('entering an application', () => {
  it('retries with another ticket, unless there are too many windows', () => {
    expect(closeOfRefusal(409).code).toBe(4003);
    for (const status of [403, 404, 429, 503]) expect(closeOfRefusal(status)).toEqual({ code: 1001, reason: 'retry' });
  });
  it('recognizes subdomains of the page’s host as same-site', () => {
    expect(isOneSite('https://1.apps.gate.example.com:8443', 'gate.example.com')).toBe(true);
    expect(isOneSite('https://1.apps.localhost:8443', 'localhost')).toBe(false);
    expect(isOneSite('https://1.apps.example.com', 'gate.example.com')).toBe(false);
    expect(isOneSite('https://1.appsgate.example.com', 'gate.example.com')).toBe(false);
  });
});

describe('ReloadDetector', () => {
  it('ignores loads after user activation and reports the others', () => {
    const person = new ReloadDetector();
    for (let n = 0; n < 50; n += 1) expect(person.loaded(n * 500, true)).toBe(false);
    const itself = new ReloadDetector();
    expect([0, 1, 2, 3, 4].map((n) => itself.loaded(n * 2000, false))).toEqual([false, false, false, false, true]);
  });
  it('ignores occasional reloads', () => {
    const refreshing = new ReloadDetector();
    for (let n = 0; n < 50; n += 1) expect(refreshing.loaded(n * 10_000, false)).toBe(false);
  });
});
