import { describe, expect, it } from 'vitest';
import { closeOf } from '../src/viewer/html5/frame';

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
