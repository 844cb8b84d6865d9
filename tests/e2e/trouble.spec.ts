// Web applications when something is wrong: what their users read, and how they come back. In two layouts: the applications' names below the gateway's own,
// as in production, and beside it, where browsers take them for another site.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type Server as Secure, createServer as createSecure } from 'node:https';
import { type Server, type Socket, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Page, chromium, expect, test } from '@playwright/test';
import { Witness } from './apps.ts';
import { House, type Person, freePort, until } from './house.ts';
import { complaints, framed, open, press } from './portal.ts';
import { calling, shot, signIn, tell } from './steps.ts';

let house: House;
let admin: Person;
let token: string;
let host: string;
let witness: Witness;

const api = calling(() => house, () => token);

const PAGE = '<!doctype html><html lang="en"><title>Board</title><h1 id="here">Board</h1><a href="/next">Next</a></html>';
/** Needs a store of its own, and tries for ever, as single-page applications do. */
const KEEPER = `<!doctype html><html lang="en"><title>Keeper</title><h1 id="here">Loading</h1><script>
  try { localStorage.setItem('a', '1'); document.getElementById('here').textContent = 'Stored'; } catch { setTimeout(() => location.reload(), 300); }
</script></html>`;

async function furnish(name: string, services: Record<string, number>): Promise<void> {
  house = await House.open({ services, name });
  admin = house.person('root@example.test', 'admin');
  token = await house.enrol(admin);
  host = (await api('GET', '/api/hosts', undefined, 200))[0].id;
}

async function workspace(id: string, name: string, service: string, rest: object = {}): Promise<void> {
  await api('POST', '/api/workspaces', { id, name, type: 'html5', target: { host_id: host, service }, requires_mfa: false, ...rest }, 201);
}

const WIDE = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };

test.use({ contextOptions: { reducedMotion: 'reduce' } });

/** A picture in both sizes and themes, and no complaint about any of them. */
async function looks(page: Page, name: string): Promise<void> {
  for (const [size, viewport] of Object.entries({ wide: WIDE, phone: PHONE })) {
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme });
      await shot(page, `${name}-${size}-${colorScheme}`);
      expect(await complaints(page), `${name}, ${size}, ${colorScheme}`).toEqual([]);
    }
  }
  await page.setViewportSize(WIDE);
  await page.emulateMedia({ colorScheme: 'light' });
}

test.afterEach(async ({}, info) => {
  tell(house, info);
  await witness?.close();
  await house?.close();
});

test('an application that cannot be opened says which part of the way is to blame, and one that is open comes back by itself', async ({ page, context }) => {
  const ports = { board: await freePort(), down: await freePort(), mute: await freePort(), shell: await freePort(), secure: await freePort() };
  await furnish('gate.localhost', ports);
  witness = await Witness.start(ports.board, { '/': { body: PAGE }, '/next': { body: PAGE.replaceAll('Board', 'Next') } });
  const held: Socket[] = [];
  const mute = createServer((socket) => held.push(socket.on('error', () => {})));
  const shell = createServer((socket) => socket.on('error', () => {}).end('SSH-2.0-OpenSSH_9.2p1\r\n'));
  const [key, certificate] = [join(house.dir, 'key.pem'), join(house.dir, 'cert.pem')];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', certificate, '-days', '2', '-subj', '/CN=wiki.example'], { stdio: 'ignore' });
  const secure = createSecure({ key: readFileSync(key), cert: readFileSync(certificate) }, (_, answer) => answer.end(PAGE));
  for (const [server, port] of [[mute, ports.mute], [shell, ports.shell], [secure, ports.secure]] as [Server | Secure, number][]) {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
  }
  try {
    await workspace('ws-board', 'Team board', 'board');
    await workspace('ws-down', 'Down', 'down');
    await workspace('ws-mute', 'Mute', 'mute');
    await workspace('ws-shell', 'Shell', 'shell');
    const pinned = { trust: { rule: 'pinned', fingerprint: Array(32).fill('11').join(':') } };
    await workspace('ws-secure', 'Wrong certificate', 'secure', { web: { scheme: 'https', host: 'wiki.example' }, server: pinned });
    await signIn(page, house, admin);

    for (const [id, words] of [['ws-down', 'down'], ['ws-mute', 'slow'], ['ws-shell', 'not-http'], ['ws-secure', 'certificate']] as const) {
      await test.step(`launching one that is ${words}`, async () => {
        await press(page, house, id);
        const toast = page.getByTestId('toast').filter({ has: page.locator('strong') });
        await expect(toast.first()).toBeVisible();
        console.log(`${words}: ${(await toast.first().innerText()).replaceAll('\n', ' | ')}`);
        await shot(page, `launch-${words}`);
        expect(await complaints(page)).toEqual([]);
      });
    }

    await test.step('the viewer of an application, open and with its toolbar', async () => {
      const { frame } = await open(page, house, 'ws-board');
      await expect(frame.locator('#here')).toBeVisible();
      await looks(page, 'viewer-application');
      await page.getByTestId('toolbar-handle').click();
      await looks(page, 'viewer-application-toolbar');
      await page.getByTestId('toolbar-handle').click();
    });

    await test.step('the gateway is killed and started again: the viewer is back by itself, a tab by itself or by one press', async () => {
      const [tab] = await Promise.all([
        context.waitForEvent('page'),
        (async () => {
          await page.getByTestId('toolbar-handle').hover();
          await page.getByTestId('toolbar-tab').click();
        })(),
      ]);
      await expect(tab.locator('#here')).toHaveText('Board');
      await house.kill('gateway');
      await page.bringToFront();
      await expect(page.getByTestId('viewer-wait')).toBeVisible();
      await expect(page.getByTestId('viewer-wait')).toHaveAttribute('data-seconds', /^[5-9]|\d\d/);
      await looks(page, 'viewer-application-reconnecting');
      const began = Date.now();
      await house.startGateway();
      await house.connected();
      await expect(page.locator('#viewer, [data-state]').first()).toHaveAttribute('data-state', 'connected');
      const { frame } = await framed(page, house);
      await expect(frame.locator('#here')).toHaveText('Board');
      console.log(`gateway started to the application shown again: ${Date.now() - began} ms`);
      // The viewer brought a cookie that the tab has, too.
      await tab.bringToFront();
      await tab.getByText('Next').click();
      await expect(tab.locator('#here')).toHaveText('Next');
      await tab.close();
    });

    await test.step('a tab alone: it says what happened, and the way back is one press', async () => {
      const { frame, origin } = await open(page, house, 'ws-board');
      await expect(frame.locator('#here')).toBeVisible();
      const tab = await context.newPage();
      await tab.goto(`${origin}/next`);
      await expect(tab.locator('#here')).toHaveText('Next');
      await page.goto('about:blank');
      await house.kill('gateway');
      await house.startGateway();
      await house.connected();
      await tab.reload();
      await expect(tab.locator('h1')).toHaveText('Nothing is open here');
      await looks(tab, 'tab-after-restart');
      const [viewer] = await Promise.all([context.waitForEvent('page'), tab.getByRole('link').click()]);
      const again = await framed(viewer, house);
      await expect(again.frame.locator('#here')).toHaveText('Board');
      await tab.reload();
      await expect(tab.locator('#here')).toHaveText('Next');
      await Promise.all([tab.close(), viewer.close()]);
    });

    await test.step('the application goes down while it is open, and its page says so', async () => {
      const { frame, origin } = await open(page, house, 'ws-board');
      await expect(frame.locator('#here')).toBeVisible();
      await witness.close();
      await frame.goto(`${origin}/next`);
      await expect(frame.locator('h1')).toContainText('The application hung up');
      await shot(page, 'application-down-in-frame');
      const tab = await context.newPage();
      await tab.goto(`${origin}/next`);
      await looks(tab, 'application-down');
      await tab.close();
      // Opened anew, the viewer says it in its own words, and keeps trying.
      await page.reload();
      await expect(page.getByTestId('viewer-wait')).toContainText('application', { ignoreCase: true });
      await expect(page.getByTestId('viewer-wait')).toHaveAttribute('data-seconds', /^[3-9]|\d\d/);
      await looks(page, 'viewer-application-down');
      witness = await Witness.start(ports.board, { '/': { body: PAGE } });
      await expect((await framed(page, house)).frame.locator('#here')).toHaveText('Board');
    });

    await test.step('a browser that keeps no cookies for it is told so', async () => {
      // What the gateway says to a browser that sends no cookie.
      const headers = { 'access-control-allow-origin': house.url, 'access-control-allow-credentials': 'true' };
      await page.route('**/.portcullis/state*', (route) => route.fulfill({ json: { state: 'none' }, headers }));
      await page.reload();
      await expect(page.getByTestId('end-page')).toHaveAttribute('data-reason', 'frameless_cookie');
      await looks(page, 'viewer-application-cookie');
    });
  } finally {
    for (const socket of held) socket.destroy();
    for (const server of [mute, shell, secure]) server.close();
  }
});

test('one that wants to store things, in a browser that lets no third party do so, is offered a tab of its own', async () => {
  const ports = { keeper: await freePort() };
  await furnish('localhost', ports);
  witness = await Witness.start(ports.keeper, { '/': { body: KEEPER } });
  await workspace('ws-keeper', 'Keeper', 'keeper');
  const profile = mkdtempSync(join(tmpdir(), 'pc-profile-'));
  mkdirSync(join(profile, 'Default'), { recursive: true });
  // As a person sets it in the browser's own settings.
  writeFileSync(join(profile, 'Default/Preferences'), JSON.stringify({ profile: { cookie_controls_mode: 1, block_third_party_cookies: true } }));
  const { launchOptions, ignoreHTTPSErrors } = test.info().project.use;
  const context = await chromium.launchPersistentContext(profile, { ...launchOptions, ignoreHTTPSErrors, viewport: WIDE });
  try {
    const page = await context.newPage();
    await signIn(page, house, admin);
    await open(page, house, 'ws-keeper');
    // Whatever Playwright asks of the page counts as done by a person, for some seconds: so it is left alone for a while.
    await until('it has loaded itself often', () => witness.asked.length > 40);
    await expect(page.getByTestId('tab-hint')).toBeVisible();
    await looks(page, 'viewer-application-restless');
    const [tab] = await Promise.all([context.waitForEvent('page'), page.getByTestId('tab-hint-move').click()]);
    await expect(tab.locator('#here')).toHaveText('Stored');
    await expect(page.getByTestId('end-page')).toHaveAttribute('data-reason', 'own_tab');
    await looks(page, 'viewer-application-moved');
    // Here it loads itself no more.
    await until('the application is asked no more', async () => {
      const before = witness.asked.length;
      await new Promise((done) => setTimeout(done, 2000));
      return witness.asked.length === before;
    });
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
});
