// Desktops behind RDP and VNC servers, through the real gateway and agent: painted, typed into, held to policy, and trusted only as long as they are who they were.
import { type Page, expect, test } from '@playwright/test';
import { join } from 'node:path';
import { House, type Person, freePort, until } from './house.ts';
import { fileOnHost, painted, prompted, shown, typeKeys } from './screen.ts';
import { Ender, NLA, NlaDesktop, VNC_PASSWORD, clipboardOf, vncDesktop } from './servers.ts';
import { calling, shot, signIn, tell } from './steps.ts';

let house: House;
let admin: Person;
let token: string;
let nla: NlaDesktop;
let ender: Ender;
let vnc: string;
let home: string;

test.beforeAll(async () => {
  const services = { nla: await freePort(), vnc: await freePort(), ended: await freePort() };
  house = await House.open({ services });
  admin = house.person('root@example.test', 'admin');
  token = await house.enrol(admin);
  nla = await NlaDesktop.start(house, services.nla);
  ender = await Ender.start(house, nla, services.ended, await freePort());
  vnc = await vncDesktop(house, services.vnc);
});

test.afterAll(async ({}, info) => {
  tell(house, info);
  ender?.close();
  await house.close();
});

const api = calling(() => house, () => token);

async function open(page: Page, workspace: string): Promise<void> {
  await page.goto(house.url);
  await page.getByTestId(`launch-${workspace}`).click();
  await page.waitForURL('**/viewer/*');
  await page.getByTestId('first-hint-ok').click({ timeout: 1 }).catch(() => {});
}

/** Ends the session, so that the next opening is a new one. */
async function leave(page: Page): Promise<void> {
  const id = page.url().split('/').at(-1);
  await house.call('POST', `/api/sessions/${id}/disconnect`, {}, token);
  await expect(page.getByTestId('end-page')).toHaveAttribute('data-reason', 'user_disconnected');
}

/** What is on the desktop's clipboard, as a program there sees it. */
async function onClipboard(page: Page): Promise<string> {
  const file = `clipboard-${++asked}.txt`;
  await typeKeys(page, `xclip -selection clipboard -o > ${file}; echo . >> ${file}`);
  const whole = await until('the desktop’s clipboard is written down', async () => {
    const text = await fileOnHost(join(home, file));
    return text.endsWith('.\n') && text;
  });
  return whole.slice(0, -2);
}
let asked = 0;

/** Sends text through the clipboard panel. */
async function give(page: Page, text: string): Promise<void> {
  await page.getByTestId('toolbar-handle').click();
  if (await page.getByTestId('clipboard-panel').isHidden()) await page.getByTestId('toolbar-clipboard').click();
  await page.getByTestId('clipboard-text').fill(text);
  await page.getByTestId('clipboard-send').click();
  await page.getByTestId('toolbar-clipboard').click();
}

test('desktops of others: RDP with NLA, its identity, its password; VNC; what policy lets pass', async ({ page }) => {
  const errors: string[] = [];
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('console', (line) => {
    if (line.text().includes('Content Security Policy')) errors.push(line.text());
    if (line.type() === 'warning' && line.text().includes('RDP')) console.log(line.text());
  });
  await signIn(page, house, admin);
  home = house.home((await api('GET', '/api/auth/me', undefined, 200)).id);
  const host = (await api('GET', '/api/hosts', undefined, 200))[0].id;

  await test.step('an admin makes a workspace of an RDP server, in the form', async () => {
    await page.goto(`${house.url}/admin/workspaces?new=1`);
    await page.getByTestId('workspace-name').fill('Accounting');
    await page.getByTestId('workspace-id').fill('ws-nla');
    await page.getByTestId('workspace-type').selectOption('rdp');
    await page.getByTestId('workspace-where').selectOption('service');
    await page.getByTestId('workspace-host').selectOption(host);
    // What the host offers, once it has said so.
    await page.locator('select[data-testid=workspace-service]').selectOption('nla');
    await page.getByTestId('workspace-username').fill(NLA.username);
    await page.getByTestId('workspace-password').fill(NLA.password);
    await shot(page, 'workspace-form');
    await page.getByTestId('workspace-submit').click();
    await expect(page.getByTestId('workspace-form')).toBeHidden();
  });

  await test.step('it is painted, and what is typed happens there', async () => {
    await open(page, 'ws-nla');
    await shown(page);
    await typeKeys(page, 'echo "Typed: OK_1 $((6*7))" > typed.txt');
    expect(await fileOnHost(join(house.dir, 'typed.txt'))).toBe('Typed: OK_1 42\n');
    await shot(page, 'nla');
  });

  await test.step('nothing in, nothing typed: view only', async () => {
    await api('PATCH', '/api/workspaces/ws-nla', { policy: { clipboard: 'none', files: false, read_only: true } }, 200);
    await expect(page.getByTestId('viewer-rules')).toHaveText('View only · Clipboard: off', { timeout: 20_000 });
    await shown(page);
    await page.getByTestId('toolbar-handle').click();
    for (const tool of ['clipboard', 'keys', 'settings']) await expect(page.getByTestId(`toolbar-${tool}`)).toBeHidden();
    await shot(page, 'view-only');
    await leave(page);
    await api('PATCH', '/api/workspaces/ws-nla', { policy: { clipboard: 'both', files: false, read_only: false } }, 200);
  });

  await test.step('a server that shows another certificate is refused, until an admin has compared and accepted it', async () => {
    await nla.anew();
    await open(page, 'ws-nla');
    await expect(page.getByTestId('end-page')).toHaveAttribute('data-reason', 'certificate', { timeout: 30_000 });
    await shot(page, 'certificate-changed');
    await page.getByTestId('end-admin').click();
    await expect(page.getByTestId('certificate-dialog')).toBeVisible();
    const [before, now] = await Promise.all(['old', 'new'].map((which) => page.getByTestId(`certificate-${which}`).innerText()));
    expect(before).not.toBe(now);
    await shot(page, 'certificate-dialog');
    await page.getByTestId('certificate-accept').click();
    await expect(page.getByTestId('certificate-dialog')).toBeHidden();
    await page.goto(house.url);
    await page.getByTestId('continue-ws-nla').click();
    await shown(page);
    await leave(page);
  });

  await test.step('a wrong stored password is told to the user, and written down', async () => {
    await api('PATCH', '/api/workspaces/ws-nla', { password: 'not-it' }, 200);
    await open(page, 'ws-nla');
    await expect(page.getByTestId('end-page')).toHaveAttribute('data-reason', 'refused', { timeout: 30_000 });
    // FreeRDP's server says no more than that it hangs up.
    await expect(page.getByTestId('end-page')).toHaveAttribute('data-why', 'refused');
    await house.call('POST', `/api/sessions/${page.url().split('/').at(-1)}/disconnect`, {}, token);
    const { entries } = await api('GET', '/api/audit?action=login_refused', undefined, 200);
    expect(entries.length).toBeGreaterThan(0);
    expect(JSON.stringify(entries)).not.toContain('not-it');
  });

  await test.step('a workspace that asks: wrong, then right, and nothing is kept', async () => {
    await api('PATCH', '/api/workspaces/ws-nla', { server: { credential: 'ask' } }, 200);
    await open(page, 'ws-nla');
    const form = page.getByTestId('credential-form');
    const enter = async (password: string) => {
      await page.getByTestId('credential-username').fill(NLA.username);
      await page.getByTestId('credential-password').fill(password);
      await page.getByTestId('credential-submit').click();
    };
    await expect(form).toHaveAttribute('data-refused', 'false', { timeout: 30_000 });
    await shot(page, 'ask');
    await enter('wrong');
    await expect(form).toHaveAttribute('data-refused', 'true', { timeout: 30_000 });
    await enter(NLA.password);
    await shown(page);
    await typeKeys(page, 'echo asked > asked.txt');
    expect(await fileOnHost(join(house.dir, 'asked.txt'))).toBe('asked\n');
    await leave(page);
  });

  await test.step('why a desktop ends the connection is told', async () => {
    await api('POST', '/api/workspaces', { id: 'ws-ended', name: 'Shared machine', type: 'rdp', target: { host_id: host, service: 'ended' }, requires_mfa: false }, 201);
    await open(page, 'ws-ended');
    await shown(page);
    ender.end(0x05);
    const end = page.getByTestId('end-page');
    await expect(end).toHaveAttribute('data-reason', 'left', { timeout: 30_000 });
    await expect(end).toHaveAttribute('data-why', 'desktop_taken_over');
    await shot(page, 'taken-over');
    const { entries } = await api('GET', '/api/audit?action=close_stream', undefined, 200);
    expect(JSON.stringify(entries)).toContain('desktop_taken_over');
    await house.call('POST', `/api/sessions/${page.url().split('/').at(-1)}/disconnect`, {}, token);
  });

  await test.step('an RDP desktop that an agent starts: painted, typed into, one clipboard', async () => {
    await api('POST', '/api/workspaces', { id: 'ws-rdp', name: 'Windows-style', type: 'rdp', requires_mfa: false }, 201);
    await open(page, 'ws-rdp');
    await painted(page);
    await prompted(page);
    await typeKeys(page, 'echo "over RDP: $((6*7))" > typed.txt');
    expect(await fileOnHost(join(home, 'typed.txt'))).toBe('over RDP: 42\n');
    await typeKeys(page, 'clear; uname -sr; ls -la ~');
    await page.getByTestId('toolbar-handle').click();
    await page.getByTestId('toolbar-keys').click();
    await expect(page.getByTestId('key-super')).toHaveText('Windows');
    await shot(page, 'rdp');
    await page.getByTestId('toolbar-handle').click();
    await give(page, 'Grüße über RDP');
    expect(await onClipboard(page)).toBe('Grüße über RDP');
    await typeKeys(page, 'printf "out of RDP" | xclip -selection clipboard -i');
    await until('the desktop’s text arrives', async () => (await page.getByTestId('clipboard-text').inputValue()) === 'out of RDP' || undefined);
  });

  await test.step('a killed gateway comes back to the same desktop', async () => {
    await typeKeys(page, 'MARK=kept; echo > ready.txt');
    await fileOnHost(join(home, 'ready.txt'));
    await house.kill('gateway');
    await expect(page.getByTestId('viewer-wait')).toBeVisible({ timeout: 30_000 });
    await house.startGateway();
    await painted(page);
    // Only the shell that was there before knows the mark.
    await typeKeys(page, 'echo "$MARK" > mark.txt');
    expect(await fileOnHost(join(home, 'mark.txt'))).toBe('kept\n');
  });

  await test.step('policy lets text in only: the open stream comes back under it', async () => {
    await api('PATCH', '/api/workspaces/ws-rdp', { policy: { clipboard: 'in', files: false, read_only: false } }, 200);
    await expect(page.getByTestId('viewer-rules')).toHaveText('Clipboard: into the desktop only', { timeout: 30_000 });
    await painted(page);
    await give(page, 'still goes in');
    expect(await onClipboard(page)).toBe('still goes in');
    await typeKeys(page, 'printf "must stay" | xclip -selection clipboard -i');
    expect(await onClipboard(page)).toBe('must stay');
    expect(await page.getByTestId('clipboard-text').inputValue()).toBe('still goes in');
  });

  await test.step('policy lets text out only', async () => {
    await api('PATCH', '/api/workspaces/ws-rdp', { policy: { clipboard: 'out', files: false, read_only: false } }, 200);
    await expect(page.getByTestId('viewer-rules')).toHaveText('Clipboard: out of the desktop only', { timeout: 30_000 });
    await painted(page);
    await typeKeys(page, 'printf "may leave" | xclip -selection clipboard -i');
    await until('the desktop’s text arrives', async () => (await page.getByTestId('clipboard-text').inputValue()) === 'may leave' || undefined);
    await page.getByTestId('toolbar-handle').click();
    await page.getByTestId('toolbar-clipboard').click();
    await expect(page.getByTestId('clipboard-send')).toBeHidden();
    await leave(page);
  });

  await test.step('a VNC server with a password that stays in the gateway; text out only', async () => {
    await api('POST', '/api/workspaces', { id: 'ws-vnc', name: 'Old machine', type: 'vnc', target: { host_id: host, service: 'vnc' }, password: VNC_PASSWORD, policy: { clipboard: 'out', files: false, read_only: false }, requires_mfa: false }, 201);
    await open(page, 'ws-vnc');
    await shown(page);
    await expect(page.getByTestId('viewer-rules')).toHaveText('Clipboard: out of the desktop only');
    await page.locator('[data-testid=viewer-screen]').click({ position: { x: 300, y: 300 } });
    await page.keyboard.type('printf "out of VNC" | xclip -selection clipboard -i; echo vnc > vnc.txt\n', { delay: 8 });
    expect(await fileOnHost(join(house.dir, 'vnc.txt'))).toBe('vnc\n');
    await until('the desktop’s text arrives', async () => (await page.getByTestId('clipboard-text').inputValue()) === 'out of VNC' || undefined);
    expect(clipboardOf(vnc)).toBe('out of VNC');
    await leave(page);
  });

  expect(errors).toEqual([]);
});
