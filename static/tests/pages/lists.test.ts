// @vitest-environment jsdom
/** The list pages of the console in each of their states, and their destructive actions. */
import './setup';
import { fireEvent, screen, waitFor } from '@testing-library/svelte';
import { describe, expect, it, vi } from 'vitest';
import * as api from '../../src/api/calls';
import { ApiError } from '../../src/api/http';
import Hosts from '../../src/console/pages/Hosts.svelte';
import LiveSessions from '../../src/console/pages/LiveSessions.svelte';
import ManageWorkspaces from '../../src/console/pages/ManageWorkspaces.svelte';
import MySessions from '../../src/console/pages/MySessions.svelte';
import Portal from '../../src/console/pages/Portal.svelte';
import Users from '../../src/console/pages/Users.svelte';
import { account } from '../../src/console/state/account.svelte';
import { toasts } from '../../src/console/state/toasts.svelte';
import { adminWorkspaces, endReason, hostsPage, livePage, portal, sessionsPage, usersPage } from '../../src/lib/strings';
import { admin, ended, host, member, security, session, users, workspace } from './fixtures';
import { clickAndConfirm, show, testListStates } from './states';

vi.mock('../../src/api/calls');

describe('Hosts', () => {
  const page = { component: Hosts, call: api.hosts, empty: [], emptyTitle: hostsPage.emptyTitle, full: [host(), host({ id: 'peer', kind: 'peer' as const, status: 'offline' as const, offers: null })], row: 'host-row', rows: 2 };
  testListStates(page);

  it('removes a host after a confirmation that says how many desktops end', async () => {
    vi.mocked(api.hosts).mockResolvedValue(page.full);
    show(page);
    await screen.findAllByTestId('host-row');
    await clickAndConfirm('host-remove', hostsPage.removeText(3));
    expect(api.removeHost).toHaveBeenCalledWith(host().id);
    await waitFor(() => expect(toasts.list[0]?.title).toBe(hostsPage.removed('rack-2')));
  });

  it('drains a host and lets it take sessions again', async () => {
    vi.mocked(api.hosts).mockResolvedValue([host(), host({ id: 'second', name: 'rack-3', drained: true })]);
    vi.mocked(api.updateHost).mockImplementation(async (id, { drained }) => host({ id, drained }));
    show(page);
    const [first, second] = await screen.findAllByTestId('host-drain');
    expect([first, second].map((button) => button?.textContent?.trim())).toEqual([hostsPage.drain, hostsPage.undrain]);
    expect(screen.getAllByTestId('host-drained')).toHaveLength(1);
    await fireEvent.click(first!);
    await waitFor(() => expect(toasts.list[0]?.title).toBe(hostsPage.drained('rack-2')));
    expect(api.updateHost).toHaveBeenLastCalledWith(host().id, { drained: true });
    await fireEvent.click(second!);
    await waitFor(() => expect(api.updateHost).toHaveBeenLastCalledWith('second', { drained: false }));
  });

  it('says when and why a host last failed, and how full it is', async () => {
    const failure = { at: new Date().toISOString(), reason: 'host_failed', detail: 'no space left on device', count: 2 };
    const slots = { desktops: { used: 3, limit: 32 }, services: { used: 1, limit: 512 } };
    vi.mocked(api.hosts).mockResolvedValue([host({ last_failure: failure, slots })]);
    show(page);
    const said = (await screen.findByTestId('host-failure')).textContent;
    expect(said).toContain(hostsPage.failureReasons.host_failed);
    expect(said).toContain('no space left on device');
    const row = screen.getByTestId('host-row').textContent;
    expect(row).toContain(hostsPage.slots(3, 32));
    expect(row).toContain(hostsPage.serviceSlots(1, 512));
  });

  it('keeps the dialog open with the error when the removal fails', async () => {
    vi.mocked(api.hosts).mockResolvedValue(page.full);
    vi.mocked(api.removeHost).mockRejectedValue(new ApiError(409, 'Host is busy'));
    show(page);
    await screen.findAllByTestId('host-row');
    await clickAndConfirm('host-remove', hostsPage.removeTitle('rack-2'));
    await waitFor(() => expect(screen.getByTestId('confirm-dialog').textContent).toContain('Host is busy'));
  });

  it('names the limits that a host does not hold, and none for a host that does not say', async () => {
    const silent = host({ id: 'silent', offers: { ...host().offers!, limits: null } });
    vi.mocked(api.hosts).mockResolvedValue([host(), silent, host({ id: 'peer', kind: 'peer', offers: null })]);
    show(page);
    await screen.findAllByTestId('host-row');
    expect(screen.getAllByTestId('host-limits-missing').map((each) => each.textContent)).toEqual([hostsPage.limitsMissing([hostsPage.limits.memory])]);
  });

  it('offers no changes to a security officer', async () => {
    account.me = security;
    vi.mocked(api.hosts).mockResolvedValue(page.full);
    show(page);
    await screen.findAllByTestId('host-row');
    expect(screen.queryByTestId('host-remove')).toBeNull();
    expect(screen.queryByTestId('host-add')).toBeNull();
  });
});

describe('LiveSessions', () => {
  const page = { component: LiveSessions, call: api.everyonesSessions, empty: [], emptyTitle: livePage.emptyTitle, full: [session(), session({ id: 'app', workspace_type: 'html5' as const })], row: 'live-session', rows: 2 };
  testListStates(page);

  it('does not show a session that is being ended', async () => {
    vi.mocked(api.everyonesSessions).mockResolvedValue([session(), ended({ ended_at: null })]);
    show(page);
    expect((await screen.findAllByTestId('live-session')).map((row) => row.dataset.id)).toEqual([session().id]);
  });

  it('links to the request log only for web applications', async () => {
    vi.mocked(api.everyonesSessions).mockResolvedValue(page.full);
    show(page);
    await screen.findAllByTestId('live-session');
    expect(screen.getAllByTestId('session-requests').map((link) => link.getAttribute('href'))).toEqual(['/requests?session=app']);
  });

  it('terminates a session after a confirmation', async () => {
    vi.mocked(api.everyonesSessions).mockResolvedValue(page.full);
    show(page);
    await screen.findAllByTestId('live-session');
    await clickAndConfirm('session-terminate', livePage.terminateTitle(member.email, 'Linux Desktop'));
    expect(api.terminate).toHaveBeenCalledWith(session().id);
  });
});

describe('ManageWorkspaces', () => {
  const offered = { pinned: 'ab', pinned_at: null, offered: 'cd', offered_at: null, offered_subject: null };
  const changed = workspace({ id: 'ws-rdp', type: 'rdp', server: { credential: 'ask', credential_saved: false, exclusive: false, keyboard: null, certificate: offered } });
  const page = { component: ManageWorkspaces, call: api.workspaces, empty: [], emptyTitle: adminWorkspaces.emptyTitle, full: [workspace(), changed], row: 'workspace-row', rows: 2 };
  testListStates(page);

  it('marks the workspace whose server offers another certificate', async () => {
    vi.mocked(api.workspaces).mockResolvedValue(page.full);
    show(page);
    await screen.findAllByTestId('workspace-row');
    const marks = screen.getAllByTestId('workspace-certificate');
    expect(marks.map((mark) => mark.closest('tr')?.dataset.id)).toEqual(['ws-rdp']);
  });

  it('opens the form that the query names', async () => {
    vi.mocked(api.workspaces).mockResolvedValue(page.full);
    vi.mocked(api.hosts).mockResolvedValue([]);
    show({ ...page, path: '/admin/workspaces?edit=ws-desk' });
    expect(await screen.findByText(adminWorkspaces.editTitle('Linux Desktop'))).toBeTruthy();
    expect((screen.getByTestId('workspace-name') as HTMLInputElement).value).toBe('Linux Desktop');
  });

  it('does not submit a workspace without a name', async () => {
    vi.mocked(api.workspaces).mockResolvedValue([]);
    show({ ...page, path: '/admin/workspaces?new=1' });
    await fireEvent.click(await screen.findByTestId('workspace-submit'));
    expect(api.createWorkspace).not.toHaveBeenCalled();
    expect(screen.getByTestId('workspace-name').getAttribute('aria-invalid')).toBe('true');
  });
});

describe('MySessions, active', () => {
  const page = { component: MySessions, call: api.activeSessions, empty: [], emptyTitle: sessionsPage.emptyActive, full: [session()], row: 'active-session', rows: 1 };
  testListStates(page);

  it('shows when each session ends, and extends one that can be', async () => {
    vi.mocked(api.activeSessions).mockResolvedValue([session({ extendable_until: '2026-03-06T06:30:00.000Z', idle_ends_at: '2026-03-05T16:30:00.000Z', idle_timeout_seconds: 3600 })]);
    vi.mocked(api.extendSession).mockResolvedValue(session({ expires_at: '2026-03-06T03:00:00.000Z' }));
    show(page);
    const ends = await screen.findByTestId('session-ends');
    expect(ends.querySelector('time')?.dateTime).toBe('2026-03-06T02:30:00.000Z');
    expect(ends.textContent).toContain('without input');
    await fireEvent.click(screen.getByTestId('session-extend'));
    expect(api.extendSession).toHaveBeenCalledWith(session().id, '30m');
    await waitFor(() => expect(toasts.list[0]?.title).toContain('now ends'));
  });

  it('offers no extension of a session that cannot be extended', async () => {
    vi.mocked(api.activeSessions).mockResolvedValue(page.full);
    show(page);
    await screen.findByTestId('active-session');
    expect(screen.queryByTestId('session-extend')).toBeNull();
  });

  it('disconnects after a confirmation', async () => {
    vi.mocked(api.activeSessions).mockResolvedValue(page.full);
    vi.mocked(api.sessions).mockResolvedValue({ items: [], next: null });
    show(page);
    await screen.findByTestId('active-session');
    await clickAndConfirm('session-disconnect', sessionsPage.disconnectTitle('Linux Desktop'));
    expect(api.disconnect).toHaveBeenCalledWith(session().id);
  });
});

describe('MySessions, history', () => {
  const page = { component: MySessions, call: api.sessions, empty: { items: [], next: null }, emptyTitle: sessionsPage.emptyHistory, full: { items: [ended()], next: null }, row: 'past-session', rows: 1 };
  testListStates(page);

  it('lists ended sessions only, with why they ended', async () => {
    vi.mocked(api.activeSessions).mockResolvedValue([session()]);
    vi.mocked(api.sessions).mockResolvedValue({ items: [session(), ended(), ended({ id: 'closing', ended_at: null, end_reason: 'expired' })], next: null });
    show(page);
    const rows = await screen.findAllByTestId('past-session');
    expect(rows.map((row) => row.textContent?.includes(endReason.admin_stopped as string))).toEqual([true, false]);
    expect(rows[1]?.textContent).toContain(endReason.expired);
  });

  it('loads older pages below the first', async () => {
    vi.mocked(api.activeSessions).mockResolvedValue([]);
    vi.mocked(api.sessions).mockImplementation(async (cursor) => (cursor ? { items: [ended({ id: 'older' })], next: null } : { items: [ended()], next: 'c1' }));
    show(page);
    await fireEvent.click(await screen.findByText('Load more'));
    await waitFor(() => expect(screen.getAllByTestId('past-session').map((row) => row.dataset.id)).toEqual([ended().id, 'older']));
    expect(screen.queryByText('Load more')).toBeNull();
  });
});

describe('Portal', () => {
  const page = { component: Portal, props: { me: member }, call: api.workspaces, empty: [], emptyTitle: portal.emptyTitle, full: [workspace(), workspace({ id: 'ws-other' })], row: 'tile-ws-desk', rows: 1 };
  testListStates(page);

  it('shows only the workspaces that the user may open', async () => {
    vi.mocked(api.workspaces).mockResolvedValue([workspace(), workspace({ id: 'ws-admin', allowed_roles: ['admin'] })]);
    show(page);
    await screen.findByTestId('tile-ws-desk');
    expect(screen.queryByTestId('tile-ws-admin')).toBeNull();
  });

  it.each([
    ['maintenance', portal.maintenance],
    ['offline', portal.offline],
    ['in_use', portal.inUse],
  ] as const)('says why a workspace that is %s cannot be opened', async (status, text) => {
    vi.mocked(api.workspaces).mockResolvedValue([workspace({ status })]);
    show(page);
    expect((await screen.findByTestId('tile-ws-desk')).textContent).toContain(text);
    expect((screen.getByTestId('launch-ws-desk') as HTMLButtonElement).disabled).toBe(true);
  });

  it('leads to the enrolment when a second factor is missing', async () => {
    vi.mocked(api.workspaces).mockResolvedValue([workspace({ requires_mfa: true })]);
    show({ ...page, props: { me: { ...member, mfa_enrolled: false, mfa_verified: false } } });
    expect((await screen.findByTestId('add-factor-ws-desk')).getAttribute('href')).toBe('/account');
  });

  it('offers a new desktop where the present one does not answer', async () => {
    vi.mocked(api.workspaces).mockResolvedValue([workspace()]);
    const launched = { stream_url: '/viewer/x', replacement: { on_another_host: true, message: 'The host of your desktop does not answer.' } };
    vi.mocked(api.launch).mockResolvedValue(launched as Awaited<ReturnType<typeof api.launch>>);
    show(page);
    await fireEvent.click(await screen.findByTestId('launch-ws-desk'));
    expect((await screen.findByTestId('replace-dialog')).textContent).toContain('The host of your desktop does not answer.');
    vi.mocked(api.launch).mockRejectedValue(new ApiError(503, 'No host is connected'));
    await fireEvent.click(screen.getByTestId('replace-new'));
    await waitFor(() => expect(api.launch).toHaveBeenLastCalledWith('ws-desk', true));
    await waitFor(() => expect(screen.queryByTestId('replace-dialog')).toBeNull());
  });

  it('says why a launch failed', async () => {
    vi.mocked(api.workspaces).mockResolvedValue([workspace()]);
    vi.mocked(api.launch).mockRejectedValue(new ApiError(503, 'No host is connected'));
    show(page);
    await fireEvent.click(await screen.findByTestId('launch-ws-desk'));
    await waitFor(() => expect(toasts.list[0]).toMatchObject({ kind: 'bad', title: portal.launchFailed('Linux Desktop'), text: 'No host is connected' }));
  });

  it('continues and stops the running session', async () => {
    const running = workspace({ status: 'in_use', active_session_id: session().id });
    vi.mocked(api.workspaces).mockResolvedValue([running]);
    vi.mocked(api.activeSessions).mockResolvedValue([session()]);
    show(page);
    expect((await screen.findByTestId('continue-ws-desk')).getAttribute('href')).toBe(`/viewer/${session().id}`);
    await clickAndConfirm('stop-ws-desk', portal.stopTitle('Linux Desktop'));
    expect(api.stopWorkspace).toHaveBeenCalledWith('ws-desk');
  });
});

describe('Users', () => {
  const page = { component: Users, props: { me: admin }, call: api.users, empty: [], emptyTitle: usersPage.emptyTitle, full: users, row: 'user-row', rows: 3 };
  testListStates(page);

  it('counts enabled accounts without a second factor and filters them', async () => {
    vi.mocked(api.users).mockResolvedValue(users);
    show(page);
    expect((await screen.findByTestId('protection')).dataset.bare).toBe('1');
    await fireEvent.click(screen.getByTestId('protection-filter'));
    await waitFor(() => expect(screen.getAllByTestId('user-row').map((row) => row.dataset.email)).toEqual(['member@example.test']));
  });

  it('disables an account after a confirmation', async () => {
    vi.mocked(api.users).mockResolvedValue(users);
    show(page);
    await screen.findAllByTestId('user-row');
    await fireEvent.click(screen.getAllByTestId('user-actions')[1] as HTMLElement);
    await screen.findByTestId('user-disable');
    await clickAndConfirm('user-disable', usersPage.disableTitle('member person'));
    expect(api.updateUser).toHaveBeenCalledWith(member.id, { disabled: true });
  });
});
