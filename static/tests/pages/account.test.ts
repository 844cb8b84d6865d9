// @vitest-environment jsdom
/** Account page, sign-in, and what App shows before and after it. */
import './setup';
import { fireEvent, render, screen, waitFor } from '@testing-library/svelte';
import { describe, expect, it, vi } from 'vitest';
import * as api from '../../src/api/calls';
import { ApiError } from '../../src/api/http';
import type { Enrolment, Me } from '../../src/api/types';
import App from '../../src/console/App.svelte';
import Account from '../../src/console/pages/Account.svelte';
import SignIn from '../../src/console/pages/SignIn.svelte';
import { account } from '../../src/console/state/account.svelte';
import { router } from '../../src/console/state/router.svelte';
import { toasts } from '../../src/console/state/toasts.svelte';
import { accountPage, common, errors, nav, signin } from '../../src/lib/strings';
import { login, member, workspace } from './fixtures';
import { clickAndConfirm, show, testListStates } from './states';

vi.mock('../../src/api/calls');

const enrolment: Enrolment = { secret: 'ABCDEFGH', otpauth_url: 'otpauth://totp/x', qr_svg: '<svg/>', issuer: 'Portcullis', account: 'a', digits: 6, period: 30 };

describe('Account', () => {
  const page = { component: Account, props: { me: member }, call: api.logins, empty: [], emptyTitle: common.none, full: [login(1, { current: true }), login(2), login(3, { active: false })], row: 'login-row', rows: 3 };
  testListStates(page);

  it('ends another login but offers no end for the current and the ended one', async () => {
    vi.mocked(api.logins).mockResolvedValue(page.full);
    show(page);
    await screen.findAllByTestId('login-row');
    expect(screen.getAllByTestId('login-end').length).toBe(1);
    await clickAndConfirm('login-end', accountPage.endTitle('Chrome on Linux'));
    expect(api.endLogin).toHaveBeenCalledWith(login(2).id);
  });

  it('lists saved credentials and forgets one', async () => {
    vi.mocked(api.logins).mockResolvedValue([]);
    const saved = workspace({ id: 'ws-rdp', name: 'Finance', type: 'rdp', server: { credential: 'user', credential_saved: true, exclusive: false, keyboard: null } });
    vi.mocked(api.workspaces).mockResolvedValue([workspace(), saved]);
    show(page);
    expect((await screen.findByTestId('account-credentials')).textContent).toContain('Finance');
    await clickAndConfirm('credential-forget', accountPage.credentialForgetTitle('Finance'));
    expect(api.forgetCredential).toHaveBeenCalledWith('ws-rdp');
  });

  it('enrols a second factor, and says when the code is wrong', async () => {
    vi.mocked(api.logins).mockResolvedValue([]);
    vi.mocked(api.enrol).mockResolvedValue(enrolment);
    vi.mocked(api.confirmEnrolment).mockRejectedValueOnce(new ApiError(401, 'Invalid code'));
    vi.mocked(api.confirmEnrolment).mockResolvedValue(undefined);
    vi.mocked(api.me).mockResolvedValue(member);
    show({ ...page, props: { me: { ...member, mfa_enrolled: false } } });
    await fireEvent.click(screen.getByTestId('account-add-factor'));
    expect((await screen.findByTestId('enrol-secret')).textContent).toBe('ABCD EFGH');
    await fireEvent.input(screen.getByTestId('code-input'), { target: { value: '123456' } });
    expect(await screen.findByText(signin.enrolWrong)).toBeTruthy();
    await waitFor(() => expect((screen.getByTestId('code-input') as HTMLInputElement).readOnly).toBe(false));
    await fireEvent.input(screen.getByTestId('code-input'), { target: { value: '654321' } });
    await waitFor(() => expect(toasts.list[0]?.title).toBe(accountPage.factorAdded));
  });
});

describe('SignIn', () => {
  async function submit(email: string, password: string) {
    await fireEvent.input(screen.getByTestId('signin-email'), { target: { value: email } });
    await fireEvent.input(screen.getByTestId('signin-password'), { target: { value: password } });
    await fireEvent.click(screen.getByTestId('signin-submit'));
  }

  it('sends nothing while a field is empty', async () => {
    render(SignIn);
    await submit('a@b.test', '');
    expect((await screen.findByTestId('signin-error')).textContent).toBe(common.required);
    expect(api.login).not.toHaveBeenCalled();
  });

  it('shows its progress while it waits', async () => {
    vi.mocked(api.login).mockReturnValue(new Promise(() => {}));
    render(SignIn);
    await submit('a@b.test', 'secret');
    await waitFor(() => expect(screen.getByTestId('signin-submit').textContent).toContain(signin.submitting));
  });

  it('distinguishes a wrong password from a failing gateway', async () => {
    vi.mocked(api.login).mockRejectedValueOnce(new ApiError(401, 'Invalid credentials'));
    vi.mocked(api.login).mockRejectedValueOnce(new ApiError(503, 'busy'));
    render(SignIn);
    await submit('a@b.test', 'wrong');
    expect((await screen.findByTestId('signin-error')).textContent).toBe(signin.wrong);
    await submit('a@b.test', 'right');
    expect(await screen.findByText(errors.unavailable.title)).toBeTruthy();
    expect(screen.queryByTestId('signin-error')).toBeNull();
  });

  it('asks for the code, and signs in with it', async () => {
    vi.mocked(api.login).mockResolvedValue({ mfa_required: true, mfa_token: 't', methods: ['totp'], enrollment_required: false, expires_in: 300 });
    vi.mocked(api.verifyCode).mockRejectedValueOnce(new ApiError(401, 'Invalid code'));
    vi.mocked(api.verifyCode).mockResolvedValue('ten wrong codes');
    vi.mocked(api.me).mockResolvedValue(member);
    account.me = null;
    router.go('/signin?return=%2Fsessions', { replace: true });
    render(SignIn);
    await submit('a@b.test', 'secret');
    await fireEvent.input(await screen.findByTestId('code-input'), { target: { value: '000000' } });
    expect(await screen.findByText(signin.codeWrong)).toBeTruthy();
    await waitFor(() => expect((screen.getByTestId('code-input') as HTMLInputElement).readOnly).toBe(false));
    await fireEvent.input(screen.getByTestId('code-input'), { target: { value: '123456' } });
    await waitFor(() => expect(router.path).toBe('/sessions'));
    expect(api.verifyCode).toHaveBeenLastCalledWith('t', '123456');
    // What the gateway says about others' tries stays until it is closed.
    expect(toasts.list).toMatchObject([{ kind: 'bad', title: signin.attention, text: 'ten wrong codes' }]);
  });

  it('returns to the password when the pending sign-in has expired', async () => {
    vi.mocked(api.login).mockResolvedValue({ mfa_required: true, mfa_token: 't', methods: ['totp'], enrollment_required: false, expires_in: 300 });
    vi.mocked(api.verifyCode).mockRejectedValue(new ApiError(401, 'Invalid or expired token'));
    render(SignIn);
    await submit('a@b.test', 'secret');
    await fireEvent.input(await screen.findByTestId('code-input'), { target: { value: '123456' } });
    expect((await screen.findByTestId('signin-error')).textContent).toBe(signin.expired);
    expect(screen.getByTestId('signin-password')).toBeTruthy();
  });

  it('starts the enrolment when it is required', async () => {
    vi.mocked(api.login).mockResolvedValue({ mfa_required: true, mfa_token: 't', methods: [], enrollment_required: true, expires_in: 300 });
    vi.mocked(api.enrol).mockResolvedValue(enrolment);
    render(SignIn);
    await submit('a@b.test', 'secret');
    expect(await screen.findByTestId('enrol-qr')).toBeTruthy();
    expect(api.enrol).toHaveBeenCalledWith('t');
  });
});

describe('App', () => {
  const open = (me: Me | null, path: string) => {
    if (me) vi.mocked(api.me).mockResolvedValue(me);
    else vi.mocked(api.me).mockRejectedValue(new ApiError(401, 'Not signed in'));
    account.me = undefined;
    router.go(path, { replace: true });
    render(App);
  };

  it('leads to the sign-in and remembers the page', async () => {
    open(null, '/audit?outcome=denied');
    await waitFor(() => expect(router.path).toBe('/signin'));
    expect(router.query.get('return')).toBe('/audit?outcome=denied');
  });

  it('shows a failing gateway instead of the sign-in', async () => {
    vi.mocked(api.me).mockRejectedValue(new ApiError(0, 'No connection'));
    account.me = undefined;
    render(App);
    expect(await screen.findByText(errors.offline.title)).toBeTruthy();
  });

  it.each(['/audit', '/admin/users', '/admin/hosts', '/admin/workspaces', '/requests'])('does not show %s to a member', async (path) => {
    open(member, path);
    expect((await screen.findByTestId('not-found')).textContent).toContain(nav.notFoundText);
  });
});
