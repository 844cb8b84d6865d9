// An application below the gateway's own name against the gateway's cookies, in a real browser: set from its page, shadowed, overflowed.
import { expect } from '@playwright/test';
import { openApp } from './app-frame.ts';
import { RecordingApp } from './apps.ts';
import { signIn, testsOn } from './helpers.ts';

let application: RecordingApp;

const { test, bed } = testsOn<'page'>({
  services: ['page'],
  // A page of the application's origin may set cookies for this name.
  name: 'gate.localhost',
  async setUp(bed) {
    application = await RecordingApp.start(bed.ports.page, {
      '/': {
        body: '<!doctype html><title>Page</title><h1>Page</h1>',
        headers: { 'set-cookie': ['__Host-portcullis=x; Secure; Path=/', '__Secure-portcullis-refresh=x; Secure; Path=/', '__host-portcullis-refresh=x; Secure; Path=/'] },
      },
    });
    await bed.api('POST', '/api/workspaces', { id: 'ws-page', name: 'Page', type: 'html5', target: bed.service('page'), requires_mfa: false }, 201);
  },
  async tearDown() {
    await application?.close();
  },
});

const NAMES = ['__Host-portcullis', '__Host-portcullis-refresh', '__Host-portcullis-here', '__Secure-portcullis-refresh', '__Host%2Dportcullis', '__Host%2Dportcullis-refresh', '__host-portcullis'];

/** Who the gateway's page is signed in as, before and after it renews its tokens. */
async function signedInAs(page: import('@playwright/test').Page): Promise<string[]> {
  return page.evaluate(async () => {
    const me = async () => ((await (await fetch('/api/auth/me')).json()) as { email?: string }).email ?? 'nobody';
    const before = await me();
    const renewed = await fetch('/api/auth/refresh', { method: 'POST', headers: { 'x-portcullis-csrf': '1', 'x-portcullis-session': 'cookie' } });
    return [before, String(renewed.status), await me()];
  });
}

test('an application signs its user in as nobody else', async ({ page, browser }) => {
  // Tokens of an attacker's own account.
  const attacker = bed.testbed.createUser('mallory@example.test', 'member');
  await bed.testbed.enrolTotp(attacker);
  const other = await browser.newContext();
  const theirs = await other.newPage();
  await signIn(theirs, bed.testbed, attacker);
  const cookies = await other.cookies();
  await other.close();
  const valueOf = (name: string) => cookies.find((cookie) => cookie.name === name)!.value;
  const tokens = { access: valueOf('__Host-portcullis'), refresh: valueOf('__Host-portcullis-refresh') };

  const { frame } = await openApp(page, bed.testbed, 'ws-page');
  await expect(frame.locator('h1')).toHaveText('Page');
  await frame.evaluate(
    ({ names, tokens }) => {
      for (const name of names) {
        const value = /refresh/.test(name) ? tokens.refresh : tokens.access;
        for (const path of ['/', '/api', '/api/auth', '/api/auth/me', '/api/auth/refresh']) {
          document.cookie = `${name}=${value}; Domain=gate.localhost; Path=${path}; Secure`;
          document.cookie = `=${name}=${value}; Domain=gate.localhost; Path=${path}; Secure`;
          document.cookie = `${name}=${value}; Path=${path}; Secure`;
        }
      }
    },
    { names: NAMES, tokens },
  );
  const gateway = await page.context().newPage();
  await gateway.goto(bed.testbed.url);
  const { email } = bed.user;
  expect(await signedInAs(gateway)).toEqual([email, '200', email]);
  const arrived = await page.context().cookies(`${bed.testbed.url}/api/auth/refresh`);
  expect(arrived.map((cookie) => cookie.name), 'some of them do arrive').toContain('__Host%2Dportcullis');
});

test('cookies without end are explained and removed, and the gateway is there again', async ({ page }) => {
  const { frame } = await openApp(page, bed.testbed, 'ws-page');
  await frame.evaluate(() => {
    for (let n = 0; n < 50; n++) document.cookie = `c${n}=${'v'.repeat(4000)}; Domain=gate.localhost; Path=/; Secure`;
  });
  const gateway = await page.context().newPage();
  const refused = await gateway.goto(bed.testbed.url);
  expect(refused?.status()).toBe(431);
  await expect(gateway.locator('h1')).toHaveText('Too many cookies');
  const again = await gateway.goto(bed.testbed.url);
  expect(again?.status()).toBe(200);
  expect((await page.context().cookies()).filter((cookie) => /^c\d/.test(cookie.name))).toEqual([]);
  await signIn(gateway, bed.testbed, bed.user);
  expect((await signedInAs(gateway))[0]).toBe(bed.user.email);
});
