// @vitest-environment jsdom
/** Sentences that must not contradict what happened: wrong codes, a gateway that does not answer, a conflict. */
import './setup';
import { fireEvent, render, screen, waitFor } from '@testing-library/svelte';
import { describe, expect, it, vi } from 'vitest';
import * as api from '../../src/api/calls';
import { ApiError } from '../../src/api/http';
import SignIn from '../../src/console/pages/SignIn.svelte';
import { account } from '../../src/console/state/account.svelte';
import { launches } from '../../src/console/state/launch.svelte';
import { toasts } from '../../src/console/state/toasts.svelte';
import Problem from '../../src/console/ui/Problem.svelte';
import { errors, portal, signin } from '../../src/lib/strings';

vi.mock('../../src/api/calls');

async function toCode() {
  account.me = null;
  vi.mocked(api.login).mockResolvedValue({ mfa_required: true, mfa_token: 't', methods: ['totp'], enrollment_required: false } as never);
  render(SignIn);
  await fireEvent.input(screen.getByTestId('signin-email'), { target: { value: 'ann@example.test' } });
  await fireEvent.input(screen.getByTestId('signin-password'), { target: { value: 'something long' } });
  await fireEvent.click(screen.getByTestId('signin-submit'));
  await screen.findByTestId('code-input');
}

async function enter(code: string) {
  const calls = vi.mocked(api.verifyCode).mock.calls.length;
  await fireEvent.input(screen.getByTestId('code-input'), { target: { value: code } });
  await waitFor(() => expect(vi.mocked(api.verifyCode).mock.calls.length).toBe(calls + 1));
  await screen.findByTestId('signin-error');
}

describe('a wrong code', () => {
  it('is told from too many of them, and neither from a step that took too long', async () => {
    await toCode();
    vi.mocked(api.verifyCode).mockRejectedValue(new ApiError(401, 'Invalid code'));
    for (let i = 0; i < 5; i += 1) {
      await enter('000000');
      expect(screen.getByTestId('signin-error').textContent).toBe(signin.codeWrong);
    }
    vi.mocked(api.verifyCode).mockRejectedValue(new ApiError(401, 'Invalid or expired token'));
    await enter('000000');
    await waitFor(() => expect(screen.getByTestId('signin-error').textContent).toBe(signin.tooManyCodes));
    expect(screen.getByTestId('signin-password')).toBeTruthy();
  });

  it('says that it took too long when it did', async () => {
    await toCode();
    vi.mocked(api.verifyCode).mockRejectedValue(new ApiError(401, 'Invalid or expired token'));
    await enter('000000');
    await waitFor(() => expect(screen.getByTestId('signin-error').textContent).toBe(signin.expired));
  });
});

describe('a gateway that does not answer', () => {
  it('is one notification, and promises no repetition of what was asked', async () => {
    vi.mocked(api.launch).mockRejectedValue(new ApiError(0, 'No connection'));
    toasts.failed(new ApiError(0, 'No connection'));
    await launches.start({ id: 'ws-a', name: 'Desk' });
    expect(toasts.list).toHaveLength(1);
    expect(toasts.list[0]).toMatchObject({ title: portal.launchFailed('Desk'), text: errors.offlineAct });
    expect(errors.offlineAct).not.toContain('by itself');
  });
});

describe('a conflict', () => {
  it('is what the gateway says, without advice that contradicts it', () => {
    render(Problem, { props: { error: new ApiError(409, 'A user with this e-mail address exists already.') } });
    expect(screen.getByTestId('problem').textContent).toContain('exists already.');
    expect(screen.getByTestId('problem').textContent).not.toContain(errors.conflict.hint);
  });
});
