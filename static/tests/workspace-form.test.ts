import { describe, expect, it } from 'vitest';
import type { Host, Workspace } from '../src/api/types';
import { isFingerprint, lacking, policyOf, readable, serverBody, serverOf, servesType, servicesOf, webBody, webOf } from '../src/lib/workspace-form';

const workspace = (more: object) => ({ id: 'ws', type: 'rdp', ...more }) as unknown as Workspace;
const PRINT = 'ab'.repeat(32);

describe('the workspace form', () => {
  it('asks for where a server is, and for who signs in', () => {
    expect(lacking('rdp', serverOf('rdp', null))).toEqual(['host', 'service', 'username']);
    expect(lacking('vnc', serverOf('vnc', null))).toEqual(['host']);
    expect(lacking('linux', serverOf('linux', null))).toEqual([]);
    const rdp = { ...serverOf('rdp', null), host: 'h', service: 'xrdp', credential: 'ask' as const };
    expect(lacking('rdp', rdp)).toEqual([]);
    expect(lacking('rdp', { ...rdp, where: 'peer', port: 0 })).toEqual(['port']);
    expect(lacking('rdp', { ...rdp, rule: 'pinned', fingerprint: 'ab' })).toEqual(['fingerprint']);
    expect(lacking('rdp', { ...rdp, rule: 'authority' })).toEqual(['roots', 'name']);
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

  it('knows a desktop that an agent starts, and says nothing of a server', () => {
    const form = serverOf('rdp', workspace({ target: null }));
    expect(form.where).toBe('own');
    expect(serverBody('rdp', form)).toEqual({});
  });

  it('sends a stored account only where it is used, and a password only when one was typed', () => {
    const form = { ...serverOf('rdp', workspace({ target: { direct: 'lab' } })), username: ' maya ', password: 'secret' };
    expect(serverBody('rdp', form)).toMatchObject({ password: 'secret', server: { credential: 'workspace', username: 'maya' } });
    const ask = serverBody('rdp', { ...form, credential: 'ask' });
    expect(ask).toMatchObject({ server: { credential: 'ask', username: null } });
    expect(ask).not.toHaveProperty('password');
    expect(serverBody('rdp', { ...form, password: '' })).not.toHaveProperty('password');
  });

  it('sends of the rule only what belongs to it', () => {
    const form = { ...serverOf('vnc', workspace({ target: { direct: 'lab' } })), fingerprint: PRINT, roots: 'pem', name: 'n' };
    expect(serverBody('vnc', form)).toMatchObject({ server: { trust: { rule: 'first_use' } } });
    expect(serverBody('vnc', { ...form, rule: 'pinned' })).toMatchObject({ server: { trust: { rule: 'pinned', fingerprint: PRINT } } });
    expect(serverBody('vnc', { ...form, rule: 'authority' })).toMatchObject({ server: { trust: { rule: 'authority', roots: 'pem', name: 'n' } } });
  });

  it('reads fingerprints as people write them', () => {
    expect(isFingerprint(`SHA256:${PRINT.toUpperCase().replace(/(..)(?=.)/g, '$1:')}`)).toBe(true);
    expect(isFingerprint(PRINT.slice(2))).toBe(false);
    expect(readable('ab:cd:ef:01')).toBe('abcd ef01');
  });

  it('begins with the policy that allows the least that people expect', () => {
    expect(policyOf(null)).toEqual({ clipboard: 'both', files: false, read_only: false });
  });

  const placed = () => ({ ...serverOf('html5', null), host: 'h', service: 'wiki' });

  it('asks of a web application only what its way of signing in needs', () => {
    const web = webOf(null);
    expect(lacking('html5', serverOf('html5', null), web)).toEqual(['host', 'service']);
    expect(lacking('html5', placed(), web)).toEqual([]);
    expect(lacking('html5', placed(), { ...web, signIn: 'header', start: '//evil' })).toEqual(['start', 'header']);
    expect(lacking('html5', placed(), { ...web, signIn: 'basic' })).toEqual(['username']);
    expect(lacking('html5', { ...placed(), credential: 'user' }, { ...web, signIn: 'basic' })).toEqual([]);
    const pinned = { ...placed(), rule: 'pinned' as const };
    expect(lacking('html5', pinned, web)).toEqual([]);
    expect(lacking('html5', pinned, { ...web, scheme: 'https' })).toEqual(['fingerprint']);
    for (const start of ['', 'lab', '/\\evil', '/a b', '/ä']) expect(lacking('html5', placed(), { ...web, start })).toEqual(['start']);
  });

  it('says nothing of a credential or a certificate that a web application has not', () => {
    const form = { ...placed(), credential: 'user' as const, username: 'x', password: 'p', rule: 'pinned' as const, fingerprint: PRINT };
    const plain = serverBody('html5', form, webOf(null));
    expect(plain).toMatchObject({ target: { host_id: 'h', service: 'wiki' }, server: { credential: 'workspace' }, web: { sign_in: { by: 'none' } } });
    expect(plain).not.toHaveProperty('password');
    expect((plain as { server: object }).server).toEqual({ credential: 'workspace' });
    const full = serverBody('html5', { ...form, credential: 'workspace' }, { ...webOf(null), scheme: 'https', signIn: 'basic' });
    expect(full).toMatchObject({ password: 'p', server: { username: 'x', trust: { rule: 'pinned' } } });
    expect(serverBody('html5', form, { ...webOf(null), signIn: 'header', header: ' X-Key ' })).toMatchObject({ server: { credential: 'user' }, web: { sign_in: { by: 'header', header: 'X-Key' } } });
  });

  it('keeps a web application as it was', () => {
    const web = { scheme: 'https', host: 'wiki', start: '/home', identity: { headers: true, assertion_audience: null }, sign_in: { by: 'basic' }, requests: { methods: ['GET', 'POST'], paths: ['/a', '/b'], upload: false, download: true, max_request: 1_572_864 } };
    expect(webBody(webOf(workspace({ type: 'html5', web })))).toEqual(web);
    expect(webBody({ ...webOf(null), methods: 'get  post,' }).requests.methods).toEqual(['GET', 'POST']);
  });

  it('offers the services that a host offers, and shows one that it does not', () => {
    const host = (offers: unknown) => ({ offers }) as unknown as Host;
    expect(servicesOf(undefined, 'x')).toBeNull();
    expect(servicesOf(host(null), 'x')).toBeNull();
    const offers = host({ desktops: [], service_types: ['rdp'], services: [{ name: 'wiki', reachable: false }] });
    expect(servicesOf(offers, 'wiki')).toEqual([{ name: 'wiki', reachable: false, offered: true }]);
    expect(servicesOf(offers, 'old')?.[1]).toEqual({ name: 'old', reachable: false, offered: false });
    expect([servesType(offers, 'html5'), servesType(offers, 'rdp'), servesType(host(null), 'html5')]).toEqual([false, true, true]);
  });
});
