// A member's Linux desktop in the browser: sign-in, launch, typing, clipboard, reconnecting, and every way in which a session ends.
import { type Page, expect } from '@playwright/test';
import { join } from 'node:path';
import { enterCode, enterPassword, launch, screenshot, sessionOf, signIn, testsOn } from './helpers.ts';
import { LAYOUTS, pressKeys } from './layouts.ts';
import { desktopClipboard, fileOnHost, letterDifference, settledText, startCat, terminalText, type, typeUntilFile, waitForDesktop, waitForShell } from './screen.ts';
import { eventually } from './testbed.ts';

const { test, bed } = testsOn({ role: 'member' });

/** Launches the desktop and waits for its first picture. */
async function openDesktop(page: Page): Promise<string> {
  const session = await launch(page, bed.testbed, 'ws-linux-desktop');
  await waitForDesktop(page);
  return session;
}

/** The same, and its terminal takes keys. */
async function openTerminal(page: Page): Promise<string> {
  const session = await openDesktop(page);
  await waitForShell(page, bed.home);
  return session;
}

const endPage = (page: Page) => page.getByTestId('end-page');

test('a user without a second factor enrols one at the first sign-in, and is asked for a code at the next', async ({ browser }) => {
  const user = bed.testbed.createUser('new@example.test', 'member');
  const context = await browser.newContext();
  const page = await context.newPage();
  await enterPassword(page, bed.testbed, user);
  await expect(page.getByTestId('enrol-qr')).toBeVisible();
  user.secret = (await page.getByTestId('enrol-secret').innerText()).replaceAll(/\s/g, '');
  await screenshot(page, 'enrol');
  await enterCode(page, user);

  await page.getByTestId('user-menu').click();
  await page.getByTestId('sign-out').click();
  await expect(page.getByTestId('signin-email')).toBeVisible();
  await signIn(page, bed.testbed, user);
  await screenshot(page, 'portal');
  await context.close();
});

test('one click launches a desktop and shows its picture, and a hint at the first time', async ({ page }) => {
  await page.addInitScript(() => location.protocol === 'https:' && localStorage.removeItem('portcullis.viewer.hint'));
  const began = Date.now();
  await openDesktop(page);
  console.log(`launch to first frame: ${Date.now() - began} ms`);
  await page.getByTestId('first-hint-ok').click();
  await screenshot(page, 'desktop');
});

test('typed text reaches the host', async ({ page }) => {
  await openTerminal(page);
  await type(page, 'echo "hello $(id -un)" > hello.txt');
  expect(await fileOnHost(join(bed.home, 'hello.txt'))).toMatch(/^hello \S+\n$/);
  await screenshot(page, 'typed');
});

for (const [layout, [text, strokes]] of Object.entries(LAYOUTS)) {
  test(`a ${layout} keyboard types the characters on its keys`, async ({ page }) => {
    await openTerminal(page);
    const file = `${layout}.txt`;
    await startCat(page, bed.home, file);
    await pressKeys(page, strokes);
    await page.keyboard.press('Enter');
    await page.keyboard.press('Control+d');
    expect(await fileOnHost(join(bed.home, file))).toBe(`${text}\n`);
  });
}

test('clipboard text goes into the desktop', async ({ page }) => {
  await openTerminal(page);
  await page.getByTestId('toolbar-handle').hover();
  await page.getByTestId('toolbar-clipboard').click();
  await page.getByTestId('clipboard-text').fill('Grüße aus dem Browser ✓');
  await page.getByTestId('clipboard-send').click();
  await eventually('the desktop has the text', async () => (await desktopClipboard(page, bed.home)) === 'Grüße aus dem Browser ✓');
});

test('clipboard text comes out of the desktop', async ({ page }) => {
  await openTerminal(page);
  await type(page, 'printf "from the desktop %s" $((6*7)) | xclip -selection clipboard -i');
  await eventually('the text is on the browser\'s clipboard', async () => (await page.evaluate(() => navigator.clipboard.readText())) === 'from the desktop 42');
});

test('after kill -9 of the gateway the same page shows the same desktop again', async ({ page }) => {
  const session = await openTerminal(page);
  // Without a prompt, which would appear at an unknown time.
  await type(page, 'MARK=kept-$$; PS1=; clear; echo this text stays whatever happens to the gateway; echo > shown.txt');
  await fileOnHost(join(bed.home, 'shown.txt'));
  const before = await settledText(page);
  await bed.testbed.kill('gateway');
  await expect(page.getByTestId('viewer-wait')).toBeVisible();
  await screenshot(page, 'reconnecting');
  await bed.testbed.startGateway();
  await waitForDesktop(page);
  await expect(page.getByTestId('viewer-wait')).toBeHidden();
  expect(sessionOf(page), 'the same page').toBe(session);
  await eventually('the terminal shows what it showed before', async () => letterDifference(before, await terminalText(page)) < 0.1);
  // Only the shell that ran before the gateway died has the variable.
  expect(await typeUntilFile(page, 'echo "$MARK" > after.txt', join(bed.home, 'after.txt'))).toMatch(/^kept-\d+\n$/);
  await screenshot(page, 'after-restart');
  expect(bed.testbed.cli('audit', 'verify'), 'the audit log is complete across the kill').toContain('whole and unaltered');
});

test('disconnecting ends the session, says so, and leads back to the portal', async ({ page }) => {
  await openDesktop(page);
  await page.getByTestId('toolbar-handle').hover();
  await page.getByTestId('toolbar-disconnect').click();
  await page.getByTestId('confirm-disconnect').click();
  await expect(endPage(page)).toHaveAttribute('data-reason', 'user_disconnected');
  await screenshot(page, 'ended');
  await page.getByTestId('end-back').click();
  await expect(page.getByTestId('launch-ws-linux-desktop')).toBeVisible();
});

test('a session that an administrator terminates ends at once, and the page gives the reason', async ({ page }) => {
  const session = await openDesktop(page);
  const began = Date.now();
  await bed.api('POST', `/api/admin/sessions/${session}/terminate`, {}, 200);
  await expect(endPage(page)).toHaveAttribute('data-reason', 'admin_stopped');
  console.log(`terminate to end page: ${Date.now() - began} ms`);
  await screenshot(page, 'cut');
});

test('the audit page shows a session from launch to end', async ({ page, browser }) => {
  const session = await openDesktop(page);
  await page.getByTestId('toolbar-handle').hover();
  await page.getByTestId('toolbar-disconnect').click();
  await page.getByTestId('confirm-disconnect').click();
  await expect(endPage(page)).toBeVisible();

  const context = await browser.newContext();
  const audit = await context.newPage();
  await signIn(audit, bed.testbed, bed.admin);
  await audit.goto(`${bed.testbed.url}/audit?session_id=${session}`);
  const rows = audit.getByTestId('audit-row');
  await expect(rows.first()).toBeVisible();
  await screenshot(audit, 'audit');
  for (const action of ['launch_workspace', 'open_stream', 'disconnect_session']) {
    await audit.goto(`${bed.testbed.url}/audit?action=${action}`);
    await expect(rows.filter({ hasText: bed.user.email }).first(), action).toBeVisible();
  }
  await context.close();
  await eventually('the session is closed', async () => {
    const actions = (await bed.auditEntries(`session_id=${session}`)).map((entry) => entry.action);
    return ['create_session', 'launch_workspace', 'issue_ticket', 'open_stream', 'disconnect_session', 'close_session'].every((action) => actions.includes(action));
  });
});

test('a user who is disabled by another process loses the open desktop', async ({ browser }) => {
  const user = bed.testbed.createUser('leaving@example.test', 'member');
  await bed.testbed.enrolTotp(user);
  const context = await browser.newContext();
  const page = await context.newPage();
  await signIn(page, bed.testbed, user);
  await openDesktop(page);
  const began = Date.now();
  bed.testbed.cli('user', 'disable', user.email);
  await expect(endPage(page)).toHaveAttribute('data-reason', 'user_disabled');
  console.log(`disabled to end page: ${Date.now() - began} ms`);
  await screenshot(page, 'disabled');
  await context.close();
});
