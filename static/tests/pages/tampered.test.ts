// @vitest-environment jsdom
/** An audit log that was altered: who is told where, and what is said to whom an act is refused. */
import './setup';
import { render, screen, waitFor } from '@testing-library/svelte';
import { createRawSnippet } from 'svelte';
import { describe, expect, it, vi } from 'vitest';
import * as api from '../../src/api/calls';
import { ApiError, toError } from '../../src/api/http';
import Shell from '../../src/console/Shell.svelte';
import { account } from '../../src/console/state/account.svelte';
import { explain } from '../../src/lib/explain';
import { errors, tampered } from '../../src/lib/strings';
import { admin, member, security } from './fixtures';

vi.mock('../../src/api/calls');

function showShell(me: typeof admin) {
  account.me = me;
  render(Shell, { props: { me, children: createRawSnippet(() => ({ render: () => '<p data-testid="page">page</p>' })) } });
}

describe('the banner about an altered audit log', () => {
  for (const [me, text] of [[admin, tampered.admin], [security, tampered.security]] as const)
    it(`tells ${me.role} on every page what to do`, async () => {
      vi.mocked(api.auditTampered).mockResolvedValue(true);
      showShell(me);
      const banner = await screen.findByTestId('tampered');
      expect(banner.getAttribute('role')).toBe('alert');
      expect(banner.textContent).toContain(text);
      expect(banner.textContent).toContain('portcullis audit accept-damage');
    });

  it('is not there while the log is whole, and not for members, who are not asked about it', async () => {
    vi.mocked(api.auditTampered).mockResolvedValue(false);
    showShell(admin);
    await waitFor(() => expect(api.auditTampered).toHaveBeenCalled());
    expect(screen.queryByTestId('tampered')).toBeNull();
    vi.mocked(api.auditTampered).mockReset().mockResolvedValue(true);
    showShell(member);
    expect(api.auditTampered).not.toHaveBeenCalled();
    expect(screen.queryByTestId('tampered')).toBeNull();
  });
});

describe('a refusal because of it', () => {
  const answer = (headers: Record<string, string>) => new Response('{"detail":"The audit log was altered from outside, so nothing is changed any more. Tell your administrator."}', { status: 503, headers });

  it('does not advise to try again', async () => {
    const said = explain(await toError(answer({ 'X-Portcullis-Audit': 'tampered' })));
    expect(said).toMatchObject(errors.tampered);
    expect(said.detail).toContain('altered from outside');
    expect(said.hint).not.toMatch(/try again/i);
  });

  it('is told from a busy database', async () => {
    expect(explain(await toError(answer({ 'Retry-After': '2' })))).toMatchObject(errors.unavailable);
    expect(explain(new ApiError(503, 'The database is busy'))).toMatchObject(errors.unavailable);
  });
});
