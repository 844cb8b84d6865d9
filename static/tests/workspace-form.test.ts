import { describe, expect, it } from 'vitest';
import type { Host, Workspace } from '../src/api/types';
import { isFingerprint, invalidFields, policyOf, groupedFingerprint, invalidTimes, serverBody, serverOf, servesType, servicesOf, timesBody, timesOf, webBody, webOf } from '../src/lib/workspace-form';

const workspace = (more: object) => ({ id: 'ws', type: 'rdp', ...more }) as unknown as Workspace;
const PRINT = 'ab'.repeat(32);

describe('the workspace form', () => {
  it('requires a target and a credential', () => {
    expect(invalidFields('rdp', serverOf('rdp', null))).toEqual(['host', 'service', 'username']);
    expect(invalidFields('vnc', serverOf('vnc', null))).toEqual(['host']);
    expect(invalidFields('linux', serverOf('linux', null))).toEqual([]);
    const rdp = { ...serverOf('rdp', null), host: 'h', service: 'xrdp', credential: 'ask' as const };
    expect(invalidFields('rdp', rdp)).toEqual([]);
    expect(invalidFields('rdp', { ...rdp, where: 'peer', port: 0 })).toEqual(['port']);
    expect(invalidFields('rdp', { ...rdp, rule: 'pinned', fingerprint: 'ab' })).toEqual(['fingerprint']);
    expect(invalidFields('rdp', { ...rdp, rule: 'authority' })).toEqual(['roots', 'name']);
  });

  it.each([
    ['service', { host_id: 'h', service: 'xrdp' }],
    ['peer', { host_id: 'h', port: 3390 }],
    ['direct', { direct: 'lab' }],
  ])('keeps a target of the kind %s as it was', (where, target) => {
    const form = serverOf('rdp', workspace({ target }));
    expect(form.where).toBe(where);
    expect(serverBody('rdp', form)).toMatchObject({ target });
  });

  it('sends no server for a desktop that an agent starts', () => {
    const form = serverOf('rdp', workspace({ target: null }));
    expect(form.where).toBe('own');
    expect(serverBody('rdp', form)).toEqual({});
  });

  it('sends a stored account only where it is used, and a password only when one was entered', () => {
    const form = { ...serverOf('rdp', workspace({ target: { direct: 'lab' } })), username: ' maya ', password: 'secret' };
    expect(serverBody('rdp', form)).toMatchObject({ password: 'secret', server: { credential: 'workspace', username: 'maya' } });
    const ask = serverBody('rdp', { ...form, credential: 'ask' });
    expect(ask).toMatchObject({ server: { credential: 'ask', username: null } });
    expect(ask).not.toHaveProperty('password');
    expect(serverBody('rdp', { ...form, password: '' })).not.toHaveProperty('password');
  });

  it('sends only the fields of the chosen trust rule', () => {
    const form = { ...serverOf('vnc', workspace({ target: { direct: 'lab' } })), fingerprint: PRINT, roots: 'pem', name: 'n' };
    expect(serverBody('vnc', form)).toMatchObject({ server: { trust: { rule: 'first_use' } } });
    expect(serverBody('vnc', { ...form, rule: 'pinned' })).toMatchObject({ server: { trust: { rule: 'pinned', fingerprint: PRINT } } });
    expect(serverBody('vnc', { ...form, rule: 'authority' })).toMatchObject({ server: { trust: { rule: 'authority', roots: 'pem', name: 'n' } } });
  });

  it('accepts fingerprints with colons, spaces and prefix', () => {
    expect(isFingerprint(`SHA256:${PRINT.toUpperCase().replace(/(..)(?=.)/g, '$1:')}`)).toBe(true);
    expect(isFingerprint(PRINT.slice(2))).toBe(false);
    expect(groupedFingerprint('ab:cd:ef:01')).toBe('abcd ef01');
  });

  it('defaults to the standard policy', () => {
    expect(policyOf(null)).toEqual({ clipboard: 'both', files: false, read_only: false });
  });

  const placed = () => ({ ...serverOf('html5', null), host: 'h', service: 'wiki' });

  it('requires only the fields of the chosen sign-in of a web application', () => {
    const web = webOf(null);
    expect(invalidFields('html5', serverOf('html5', null), web)).toEqual(['host', 'service']);
    expect(invalidFields('html5', placed(), web)).toEqual([]);
    expect(invalidFields('html5', placed(), { ...web, signIn: 'header', start: '//evil' })).toEqual(['start', 'header']);
    expect(invalidFields('html5', placed(), { ...web, signIn: 'basic' })).toEqual(['username']);
    expect(invalidFields('html5', { ...placed(), credential: 'user' }, { ...web, signIn: 'basic' })).toEqual([]);
    const pinned = { ...placed(), rule: 'pinned' as const };
    expect(invalidFields('html5', pinned, web)).toEqual([]);
    expect(invalidFields('html5', pinned, { ...web, scheme: 'https' })).toEqual(['fingerprint']);
    for (const start of ['', 'lab', '/\\evil', '/a b', '/ä']) expect(invalidFields('html5', placed(), { ...web, start })).toEqual(['start']);
  });

  it('sends no credential or trust rule that a web application does not have', () => {
    const form = { ...placed(), credential: 'user' as const, username: 'x', password: 'p', rule: 'pinned' as const, fingerprint: PRINT };
    const plain = serverBody('html5', form, webOf(null));
    expect(plain).toMatchObject({ target: { host_id: 'h', service: 'wiki' }, server: { credential: 'workspace' }, web: { sign_in: { by: 'none' } } });
    expect(plain).not.toHaveProperty('password');
    expect((plain as { server: object }).server).toEqual({ credential: 'workspace' });
    const full = serverBody('html5', { ...form, credential: 'workspace' }, { ...webOf(null), scheme: 'https', signIn: 'basic' });
    expect(full).toMatchObject({ password: 'p', server: { username: 'x', trust: { rule: 'pinned' } } });
    expect(serverBody('html5', form, { ...webOf(null), signIn: 'header', header: ' X-Key ' })).toMatchObject({ server: { credential: 'user' }, web: { sign_in: { by: 'header', header: 'X-Key' } } });
  });

  it('round-trips a web application', () => {
    const web = { scheme: 'https', host: 'wiki', start: '/home', identity: { headers: true, assertion_audience: null }, sign_in: { by: 'basic' }, requests: { methods: ['GET', 'POST'], paths: ['/a', '/b'], upload: false, download: true, max_request: 1_572_864 } };
    expect(webBody(webOf(workspace({ type: 'html5', web })))).toEqual(web);
    expect(webBody({ ...webOf(null), methods: 'get  post,' }).requests.methods).toEqual(['GET', 'POST']);
  });

  it('lists the services of a host and the present one', () => {
    const host = (offers: unknown) => ({ offers }) as unknown as Host;
    expect(servicesOf(undefined, 'x')).toBeNull();
    expect(servicesOf(host(null), 'x')).toBeNull();
    const offers = host({ desktops: [], service_types: ['rdp'], services: [{ name: 'wiki', reachable: false }] });
    expect(servicesOf(offers, 'wiki')).toEqual([{ name: 'wiki', reachable: false, offered: true }]);
    expect(servicesOf(offers, 'old')?.[1]).toEqual({ name: 'old', reachable: false, offered: false });
    expect([servesType(offers, 'html5'), servesType(offers, 'rdp'), servesType(host(null), 'html5')]).toEqual([false, true, true]);
  });
});

describe('how long sessions last', () => {
  const limits = (duration: number | null, extension: number | null, idle: number | null) => ({ duration_seconds: duration, extension_seconds: extension, idle_timeout_seconds: idle });

  it('is read in hours and minutes, and sent in seconds', () => {
    const set = timesOf(workspace({ session_limits: limits(9000, 0, 900) }));
    expect(set).toEqual({ duration: 2.5, extension: 0, idle: 15 });
    expect(timesBody(set)).toEqual(limits(9000, 0, 900));
    expect(timesBody(timesOf(null))).toEqual(limits(null, null, null));
  });

  it('is refused outside of what the gateway accepts', () => {
    expect(invalidTimes({ duration: null, extension: null, idle: null })).toEqual([]);
    expect(invalidTimes({ duration: 8, extension: 0, idle: 0 })).toEqual([]);
    expect(invalidTimes({ duration: 0, extension: -1, idle: 0.5 })).toEqual(['duration', 'extension', 'idle']);
    expect(invalidTimes({ duration: 721, extension: 721, idle: 60 * 721 })).toEqual(['duration', 'extension', 'idle']);
  });
});
