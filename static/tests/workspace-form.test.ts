import { describe, expect, it } from 'vitest';
import type { Workspace } from '../src/api/types';
import { isFingerprint, lacking, policyOf, readable, serverBody, serverOf } from '../src/lib/workspace-form';

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
});
