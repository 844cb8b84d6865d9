import { describe, expect, it } from 'vitest';
import { ApiError } from '../src/api/http';
import { auditExport } from '../src/api/calls';
import { fromLocalField, readFilter, toLocalField } from '../src/lib/audit-filter';
import { deviceOf } from '../src/lib/device';
import { explain } from '../src/lib/explain';
import { ago, bytes, moment, span, stopwatch, utc } from '../src/lib/format';
import { qrImage } from '../src/lib/qr';
import { returnPath } from '../src/lib/return-path';
import { actionLabel, actions, endReason, rules, viewer } from '../src/lib/strings';
import { backoff } from '../src/viewer/core/backoff';
import { chordsOf, keysymOf } from '../src/viewer/core/keys';
import { chooseSizing, sizingFor } from '../src/viewer/core/sizing';
import { readLatency } from '../src/viewer/core/latency';
import { difference } from '../src/viewer/ui/touch-keyboard';

const NOON = new Date(2025, 10, 21, 12, 0, 0).getTime();
const at = (ms: number) => new Date(ms).toISOString();

describe('format', () => {
  it('formats moments relative to today', () => {
    expect(moment(at(NOON - 3_600_000), NOON)).toBe('Today 11:00');
    expect(moment(at(NOON - 86_400_000), NOON, true)).toBe('Yesterday 12:00:00');
    expect(moment(at(NOON - 10 * 86_400_000), NOON)).toMatch(/^(11 Nov|Nov 11) 12:00$/);
    expect(moment(at(NOON - 400 * 86_400_000), NOON)).toContain('2024');
    expect(moment(null, NOON)).toBe('–');
    expect(utc('2025-11-21T12:00:00.123Z')).toBe('2025-11-21 12:00:00.123 UTC');
  });
  it('formats durations', () => {
    expect([0, 42_000, 723_000, 3_723_000, 90_061_000].map(stopwatch)).toEqual(['0:00', '0:42', '12:03', '1:02:03', '1 day 1:01:01']);
    expect([500, 42_000, 65_000, 723_000, 3_900_000, 90_000_000].map(span)).toEqual(['0 s', '42 s', '1 min 5 s', '12 min', '1 h 5 min', '1 day 1 h']);
    expect(stopwatch(-5)).toBe('0:00');
    expect(ago(at(NOON - 2_000), NOON)).toBe('Just now');
    expect(ago(at(NOON - 130_000), NOON)).toBe('2 min ago');
  });
  it('formats sizes', () => {
    expect([0, 812, 4_200, 18_400_000, 1_300_000_000].map(bytes)).toEqual(['0 B', '812 B', '4.2 kB', '18.4 MB', '1.3 GB']);
  });
});

describe('returnPath', () => {
  it.each(['/', '/sessions', '/audit?outcome=denied', '/viewer/abc'])('keeps %s', (path) => {
    expect(returnPath(path)).toBe(path);
  });
  it.each([null, '', 'https://evil.test/', '//evil.test', '/\\evil.test', '/\t/evil.test', 'javascript:alert(1)', '/api/auth/logout', '/signin'])('refuses %s', (path) => {
    expect(returnPath(path)).toBe('/');
  });
});

describe('audit filters', () => {
  it('are read from the query', () => {
    const filter = readFilter(new URLSearchParams('actor=%20maya%20&outcome=denied&scope=all&q='));
    expect(filter).toEqual({ actor: 'maya', outcome: 'denied' });
  });
  it('are part of the download URL', () => {
    expect(auditExport({ actor: 'a&b@example.com', outcome: 'denied' }, 'csv')).toBe('/api/audit/export?format=csv&actor=a%26b%40example.com&outcome=denied');
    expect(auditExport({}, 'jsonl')).toBe('/api/audit/export?format=jsonl');
  });
  it('convert instants to the local field and back', () => {
    const iso = '2025-11-21T12:34:00.000Z';
    expect(fromLocalField(toLocalField(iso))).toBe(iso);
    expect(toLocalField('nonsense')).toBe('');
    const zone = process.env.TZ;
    process.env.TZ = 'Europe/Berlin';
    // 02:30 occurs twice; 02:30 of 2026-03-29 does not occur.
    for (const iso of ['2026-10-25T01:30:00.000Z', '2026-10-25T00:30:00.000Z', '2026-10-25T01:30:00.000Z', '2026-10-25T02:30:00.000Z', '2026-03-29T01:30:00.000Z', '2026-03-29T00:30:00.000Z']) expect(fromLocalField(toLocalField(iso))).toBe(iso);
    if (zone === undefined) delete process.env.TZ;
    else process.env.TZ = zone;
    expect(fromLocalField('')).toBeUndefined();
  });
});

describe('devices', () => {
  it.each([
    ['Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/146.0 Safari/537.36', 'Chrome on Linux'],
    ['Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/146.0 Safari/537.36 Edg/146.0', 'Edge on Windows'],
    ['Mozilla/5.0 (Macintosh; Intel Mac OS X 14_6) AppleWebKit/605.1.15 Version/18.0 Safari/605.1.15', 'Safari on macOS'],
    ['Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Mobile Safari/604.1', 'Safari on iPhone'],
    ['Mozilla/5.0 (Android 15; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0', 'Firefox on Android'],
    ['curl/8.5.0', 'curl'],
    ['', 'Unknown program'],
    [null, 'Unknown program'],
  ])('%s', (agent, words) => expect(deviceOf(agent)).toBe(words));
});

describe('sizing', () => {
  it('is remote in a large window and fit in a small one', () => {
    const kept: Record<string, string> = {};
    const keep = (key: string, value?: string) => (value === undefined ? (kept[key] ?? null) : (kept[key] = value));
    expect(sizingFor({ width: 1280, height: 800 }, keep)).toBe('remote');
    expect(sizingFor({ width: 390, height: 844 }, keep)).toBe('fit');
    expect(sizingFor({ width: 844, height: 390 }, keep)).toBe('fit');
    expect(sizingFor({ width: 820, height: 1180 }, keep)).toBe('remote');
  });
  it('is stored separately for small and large windows', () => {
    const kept: Record<string, string> = {};
    const keep = (key: string, value?: string) => (value === undefined ? (kept[key] ?? null) : (kept[key] = value));
    chooseSizing('fit', { width: 1280, height: 800 }, keep);
    expect([sizingFor({ width: 1280, height: 800 }, keep), sizingFor({ width: 390, height: 844 }, keep)]).toEqual(['fit', 'fit']);
    chooseSizing('actual', { width: 390, height: 844 }, keep);
    expect([sizingFor({ width: 1280, height: 800 }, keep), sizingFor({ width: 390, height: 844 }, keep)]).toEqual(['fit', 'actual']);
    kept.sizing = 'nonsense';
    expect(sizingFor({ width: 1280, height: 800 }, keep)).toBe('remote');
  });
});

describe('explanations', () => {
  it('have a title and a hint for every status', () => {
    for (const status of [0, 400, 401, 403, 404, 409, 413, 422, 423, 429, 500, 502, 503]) {
      const words = explain(new ApiError(status, 'said', 'req-1', 90));
      expect(words.title).not.toBe('');
      expect(words.hint).not.toBe('');
      expect(words.requestId).toBe('req-1');
    }
    expect(explain(new Error('bug')).title).not.toContain('bug');
  });
});

describe('strings', () => {
  it('exist for every end of a session', () => {
    for (const reason of ['user_disconnected', 'workspace_stopped', 'admin_stopped', 'signed_out', 'signed_out_by_admin', 'user_disabled', 'workspace_removed', 'expired', 'idle_timeout', 'host_lost', 'launch_failed']) {
      expect(viewer.end[reason]?.title, reason).toBeTruthy();
      expect(endReason[reason], reason).toBeTruthy();
    }
  });
  it('exist for every audit action', () => {
    const names =
      'login login_failed login_throttled mfa_verify mfa_failed mfa_enroll mfa_reset refresh refresh_reuse logout logout_everywhere create_session launch_workspace stop_workspace disconnect_session terminate_session extend_session expire_session end_idle_session close_session open_stream close_stream issue_ticket ticket_refused access_denied token_refused create_workspace update_workspace delete_workspace create_user update_user disable_user enable_user sign_out_user create_join_token enroll_host remove_host host_connected host_lost gateway_start gateway_stop export_audit verify_audit';
    expect(names.split(' ').filter((name) => !actions[name])).toEqual([]);
  });
});

describe('a refusal in the audit log', () => {
  it('says what was tried, not the name of a permission', () => {
    expect(actionLabel({ action: 'access_denied', details: { act: 'mfa_reset', rule: 'manage_users' } })).toBe('Refused: reset a second factor');
    expect(actionLabel({ action: 'access_denied', details: { rule: 'read_audit' } })).toBe('Refused: read the audit log');
    expect(actionLabel({ action: 'access_denied', details: {} })).toBe(actions.access_denied);
    expect(rules.manage_users).toContain('administrators');
  });
});

describe('viewer parts', () => {
  it('back off quickly at first, at most two seconds, with a random part', () => {
    expect(backoff(0, 0.999)).toBeLessThanOrEqual(100);
    for (let attempt = 0; attempt < 50; attempt += 1) {
      expect(backoff(attempt, 0.999)).toBeLessThanOrEqual(2_000);
      expect(backoff(attempt, 0)).toBeGreaterThan(0);
    }
    expect(backoff(20, 0)).not.toBe(backoff(20, 0.9));
  });
  it('name the slow hop only when there is one', () => {
    expect(readLatency(null)).toBeNull();
    expect(readLatency({ browser_ms: null, host_ms: null })).toBeNull();
    expect(readLatency({ browser_ms: 9, host_ms: 3 })).toEqual({ totalMs: 12, slow: null });
    expect(readLatency({ browser_ms: 140, host_ms: 3, slow_leg: 'browser_gateway' })?.slow).toBe('browser_gateway');
    expect(readLatency({ browser_ms: 20, host_ms: 3, slow_leg: 'host_desktop' })?.slow).toBe('host_desktop');
    for (const leg of ['browser_gateway', 'gateway_host', 'host_desktop']) expect(viewer.slow[leg]).toBeTruthy();
  });
  it('map characters to keysyms', () => {
    expect([...'aÿ€\n'].map(keysymOf)).toEqual([0x61, 0xff, 0x0100_20ac, 0xff0d]);
    const f = [...chordsOf(false), ...chordsOf(true)].find(({ id }) => id === 'ctrl-alt-f1');
    expect(f?.keys.map(({ keysym }) => keysym)).toEqual([0xffe3, 0xffe9, 0xffbe]);
  });
  it('compute what was typed on a touch keyboard', () => {
    expect(difference('ab', 'abc')).toEqual({ deleted: 0, typed: 'c' });
    expect(difference('ab', 'a')).toEqual({ deleted: 1, typed: '' });
    expect(difference('\u00a0😀', '\u00a0')).toEqual({ deleted: 1, typed: '' });
    expect(difference('\u00a0a😀', '\u00a0a😁')).toEqual({ deleted: 1, typed: '😁' });
    expect(difference('teh', 'the')).toEqual({ deleted: 2, typed: 'he' });
  });
  it('show the QR code as an image without scripts', () => {
    expect(qrImage('<svg onload="x()"/>')).toBe('data:image/svg+xml;charset=utf-8,%3Csvg%20onload%3D%22x()%22%2F%3E');
  });
});
