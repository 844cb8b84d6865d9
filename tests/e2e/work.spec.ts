// The main job, from the first sign-in to the audit log: everything real, nothing taken for granted.
import { type Page, expect, test } from '@playwright/test';
import { join } from 'node:path';
import { House, type Person, nextCode, until } from './house.ts';
import { LAYOUTS, press } from './layouts.ts';
import { differing, fileOnHost, painted, prompted, settled, terminalText, type } from './screen.ts';
import { shot, tell } from './steps.ts';

let house: House;
let mia: Person;
let admin: Person;

test.beforeAll(async () => {
  house = await House.open();
  mia = house.person('mia@example.test', 'member');
  admin = house.person('root@example.test', 'admin');
});

test.afterAll(async ({}, info) => {
  tell(house, info);
  await house.close();
});

async function password(page: Page, person: Person): Promise<void> {
  await page.goto(`${house.url}/signin`);
  await page.getByTestId('signin-email').fill(person.email);
  await page.getByTestId('signin-password').fill(person.password);
  await page.getByTestId('signin-submit').click();
}

async function code(page: Page, person: Person): Promise<void> {
  await page.getByTestId('code-input').fill(await nextCode(person));
  await expect(page.getByTestId('user-menu')).toBeVisible();
}

async function signIn(page: Page, person: Person): Promise<void> {
  await password(page, person);
  await code(page, person);
}

test('an employee launches a desktop, works, survives a killed gateway, and an admin sees it all', async ({ page, browser }) => {
  const errors: string[] = [];
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('console', (line) => {
    if (line.text().includes('Content Security Policy')) errors.push(line.text());
  });

  await test.step('who has no second factor enrols one', async () => {
    await password(page, mia);
    await expect(page.getByTestId('enrol-qr')).toBeVisible();
    mia.secret = (await page.getByTestId('enrol-secret').innerText()).replaceAll(/\s/g, '');
    await shot(page, 'enrol');
    await code(page, mia);
  });

  await test.step('the next sign-in asks for a code', async () => {
    await page.getByTestId('user-menu').click();
    await page.getByTestId('sign-out').click();
    await expect(page.getByTestId('signin-email')).toBeVisible();
    await signIn(page, mia);
    await shot(page, 'portal');
  });

  let session = '';
  let home = '';
  await test.step('one click and the desktop is there', async () => {
    const began = Date.now();
    await page.getByTestId('launch-ws-linux-desktop').click();
    await page.waitForURL('**/viewer/*');
    session = page.url().split('/').at(-1)!;
    await painted(page);
    const ms = Date.now() - began;
    console.log(`launch to first frame: ${ms} ms`);
    await page.getByTestId('first-hint-ok').click();
    await shot(page, 'desktop');
  });

  await test.step('what is typed happens on the host', async () => {
    const me = await page.evaluate(async () => (await fetch('/api/auth/me')).json());
    home = house.home(me.id);
    await prompted(page);
    await type(page, 'MARK=kept-$$; echo "hello $(id -un)" > hello.txt');
    expect(await fileOnHost(join(home, 'hello.txt'))).toMatch(/^hello \S+\n$/);
    await shot(page, 'typed');
  });

  for (const [layout, [text, strokes]] of Object.entries(LAYOUTS)) {
    await test.step(`a ${layout} keyboard types what stands on its keys`, async () => {
      const file = `${layout}.txt`;
      await type(page, `cat > ${file}`);
      await press(page, strokes);
      await page.keyboard.press('Enter');
      await page.keyboard.press('Control+d');
      expect(await fileOnHost(join(home, file))).toBe(`${text}\n`);
    });
  }

  await test.step('the clipboard goes both ways', async () => {
    await page.getByTestId('toolbar-handle').hover();
    await page.getByTestId('toolbar-clipboard').click();
    await page.getByTestId('clipboard-text').fill('Grüße aus dem Browser ✓');
    await page.getByTestId('clipboard-send').click();
    await type(page, 'xclip -selection clipboard -o > fromhere.txt');
    expect(await fileOnHost(join(home, 'fromhere.txt'))).toBe('Grüße aus dem Browser ✓');
    await type(page, 'printf "from the desktop %s" "$MARK" | xclip -selection clipboard -i');
    const copied = await until('the desktop\'s clipboard arrives', async () => {
      const text = await page.evaluate(() => navigator.clipboard.readText());
      return text.startsWith('from the desktop kept-') && text;
    });
    expect(copied).toMatch(/^from the desktop kept-\d+$/);
  });

  await test.step('a killed gateway comes back to the same desktop', async () => {
    // Without a prompt, which would come at a time of its own.
    await type(page, 'PS1=; clear; echo this text must stay whatever becomes of the gateway; echo > shown.txt');
    await fileOnHost(join(home, 'shown.txt'));
    const before = await settled(page);
    await house.kill('gateway');
    await expect(page.getByTestId('viewer-wait')).toBeVisible();
    await shot(page, 'reconnecting');
    await house.startGateway();
    await painted(page);
    await expect(page.getByTestId('viewer-wait')).toBeHidden();
    expect(page.url(), 'the same page').toContain(session);
    await until('the terminal shows what it showed before', async () => differing(before, await terminalText(page)) < 0.1);
    // The variable was set in a shell before the gateway died: only that same shell knows it.
    await type(page, 'echo "$MARK" > after.txt');
    expect(await fileOnHost(join(home, 'after.txt'))).toMatch(/^kept-\d+\n$/);
    await shot(page, 'after-restart');
  });

  await test.step('disconnecting says so, and leads back', async () => {
    await page.getByTestId('toolbar-handle').hover();
    await page.getByTestId('toolbar-disconnect').click();
    await page.getByTestId('confirm-disconnect').click();
    await expect(page.getByTestId('end-page')).toHaveAttribute('data-reason', 'user_disconnected');
    await shot(page, 'ended');
    await page.getByTestId('end-back').click();
    await expect(page.getByTestId('launch-ws-linux-desktop')).toBeVisible();
  });

  const adminToken = await house.enrol(admin);
  await test.step('an admin cuts a session, and the page says why', async () => {
    await page.getByTestId('launch-ws-linux-desktop').click();
    await page.waitForURL('**/viewer/*');
    await painted(page);
    const id = page.url().split('/').at(-1);
    const cut = Date.now();
    const answer = await house.call('POST', `/api/admin/sessions/${id}/terminate`, {}, adminToken);
    expect(answer.status, JSON.stringify(answer.body)).toBe(200);
    await expect(page.getByTestId('end-page')).toHaveAttribute('data-reason', 'admin_stopped');
    console.log(`cut to end page: ${Date.now() - cut} ms`);
    await shot(page, 'cut');
  });

  await test.step('a user disabled from the shell, by another process, is out', async () => {
    await page.getByTestId('end-back').click();
    await page.getByTestId('launch-ws-linux-desktop').click();
    await page.waitForURL('**/viewer/*');
    await painted(page);
    house.cli('user', 'disable', mia.email);
    const said = Date.now();
    await expect(page.getByTestId('end-page')).toHaveAttribute('data-reason', 'user_disabled');
    console.log(`disabled to end page: ${Date.now() - said} ms`);
    await shot(page, 'disabled');
  });

  await test.step('the admin sees all of it in the audit table', async () => {
    const context = await browser.newContext();
    const desk = await context.newPage();
    await signIn(desk, admin);
    await desk.goto(`${house.url}/audit?session_id=${session}`);
    const rows = desk.getByTestId('audit-row');
    await expect(rows.first()).toBeVisible();
    await shot(desk, 'audit');
    for (const action of ['launch_workspace', 'open_stream', 'disconnect_session']) {
      await desk.goto(`${house.url}/audit?action=${action}`);
      await expect(rows.filter({ hasText: mia.email }).first(), action).toBeVisible();
    }
    await context.close();
    const { body } = await house.call('GET', `/api/audit?session_id=${session}&limit=100`, undefined, adminToken);
    const actions = body.entries.map((entry: { action: string }) => entry.action);
    for (const action of ['create_session', 'launch_workspace', 'issue_ticket', 'open_stream', 'disconnect_session', 'close_session']) {
      expect(actions, action).toContain(action);
    }
  });

  await test.step('the log is whole, also across the kill', async () => {
    expect(house.cli('audit', 'verify')).toContain('whole and unaltered');
  });
  expect(errors).toEqual([]);
});
