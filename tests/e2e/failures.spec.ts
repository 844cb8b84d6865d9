// Web applications that fail: what the user reads, and how the viewer and tabs recover. The applications' domain is below the gateway's name, as in production.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer as createSecureServer } from 'node:https';
import { type Server, type Socket, createServer } from 'node:net';
import { join } from 'node:path';
import { type Page, expect } from '@playwright/test';
import { type OpenApp, appFrame, axeViolations, clickLaunch, openApp } from './app-frame.ts';
import { RecordingApp } from './apps.ts';
import { screenshot, testsOn } from './helpers.ts';
import { expectAccessible } from './looks.ts';

const PAGE = '<!doctype html><html lang="en"><title>Board</title><h1 id="here">Board</h1><a href="/next">Next</a></html>';
const PAGES = { '/': { body: PAGE }, '/next': { body: PAGE.replaceAll('Board', 'Next') } };

type Service = 'board' | 'down' | 'mute' | 'shell' | 'secure';

let board: RecordingApp;
const sockets: Socket[] = [];
const servers: Server[] = [];

const { test, bed } = testsOn<Service>({
  services: ['board', 'down', 'mute', 'shell', 'secure'],
  name: 'gate.localhost',
  async setUp(bed) {
    board = await RecordingApp.start(bed.ports.board, PAGES);
    const [key, certificate] = [join(bed.testbed.dir, 'key.pem'), join(bed.testbed.dir, 'cert.pem')];
    execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', certificate, '-days', '2', '-subj', '/CN=wiki.example'], { stdio: 'ignore' });
    const listening: [Server, number][] = [
      [createServer((socket) => sockets.push(socket.on('error', () => {}))), bed.ports.mute],
      [createServer((socket) => socket.on('error', () => {}).end('SSH-2.0-OpenSSH_9.2p1\r\n')), bed.ports.shell],
      [createSecureServer({ key: readFileSync(key), cert: readFileSync(certificate) }, (_, answer) => answer.end(PAGE)), bed.ports.secure],
    ];
    for (const [server, port] of listening) {
      servers.push(server.listen(port, '127.0.0.1'));
      await once(server, 'listening');
    }
    const workspace = (id: string, name: string, service: Service, rest: object = {}) =>
      bed.api('POST', '/api/workspaces', { id, name, type: 'html5', target: bed.service(service), requires_mfa: false, ...rest }, 201);
    await workspace('ws-board', 'Team board', 'board');
    await workspace('ws-down', 'Down', 'down');
    await workspace('ws-mute', 'Mute', 'mute');
    await workspace('ws-shell', 'Shell', 'shell');
    const pinned = { trust: { rule: 'pinned', fingerprint: Array(32).fill('11').join(':') } };
    await workspace('ws-secure', 'Wrong certificate', 'secure', { web: { scheme: 'https', host: 'wiki.example' }, server: pinned });
  },
  async tearDown() {
    for (const socket of sockets) socket.destroy();
    for (const server of servers) server.close();
    await board?.close();
  },
});

test.use({ contextOptions: { reducedMotion: 'reduce' } });

/** Opens the board in the viewer. */
async function openBoard(page: Page): Promise<OpenApp> {
  const app = await openApp(page, bed.testbed, 'ws-board');
  await expect(app.frame.locator('#here')).toHaveText('Board');
  return app;
}

async function restartGateway(): Promise<void> {
  await bed.testbed.startGateway();
  await bed.testbed.hostConnected();
}

for (const [id, cause] of [['ws-down', 'down'], ['ws-mute', 'slow'], ['ws-shell', 'not-http'], ['ws-secure', 'certificate']] as const) {
  test(`launching an application that is ${cause} names the cause`, async ({ page }) => {
    await clickLaunch(page, bed.testbed, id);
    const toast = page.getByTestId('toast').filter({ has: page.locator('strong') });
    await expect(toast.first()).toBeVisible();
    console.log(`${cause}: ${(await toast.first().innerText()).replaceAll('\n', ' | ')}`);
    await screenshot(page, `launch-${cause}`);
    expect(await axeViolations(page)).toEqual([]);
  });
}

test('the viewer of an application is accessible, with its toolbar closed and open', async ({ page }) => {
  await openBoard(page);
  await expectAccessible(page, 'viewer-application');
  await page.getByTestId('toolbar-handle').click();
  await expectAccessible(page, 'viewer-application-toolbar');
});

test('after kill -9 of the gateway the viewer shows the application again, and a tab works on', async ({ page }) => {
  await openBoard(page);
  const [tab] = await Promise.all([
    page.context().waitForEvent('page'),
    (async () => {
      await page.getByTestId('toolbar-handle').hover();
      await page.getByTestId('toolbar-tab').click();
    })(),
  ]);
  await expect(tab.locator('#here')).toHaveText('Board');
  await bed.testbed.kill('gateway');
  await page.bringToFront();
  const wait = page.getByTestId('viewer-wait');
  await expect(wait).toBeVisible();
  await expect(wait).toHaveAttribute('data-seconds', /^[5-9]|\d\d/);
  await expectAccessible(page, 'viewer-application-reconnecting');
  const began = Date.now();
  await restartGateway();
  await expect(page.locator('#viewer, [data-state]').first()).toHaveAttribute('data-state', 'connected');
  await expect((await appFrame(page, bed.testbed)).frame.locator('#here')).toHaveText('Board');
  console.log(`gateway started to the application shown again: ${Date.now() - began} ms`);
  // The viewer obtained a new cookie, which the tab has, too.
  await tab.bringToFront();
  await tab.getByText('Next').click();
  await expect(tab.locator('#here')).toHaveText('Next');
});

test('after kill -9 of the gateway a tab without a viewer says what happened, and one click leads back', async ({ page }) => {
  const { origin } = await openBoard(page);
  const context = page.context();
  const tab = await context.newPage();
  await tab.goto(`${origin}/next`);
  await expect(tab.locator('#here')).toHaveText('Next');
  await page.goto('about:blank');
  await bed.testbed.kill('gateway');
  await restartGateway();
  await tab.reload();
  await expect(tab.locator('h1')).toHaveText('Nothing is open here');
  await expectAccessible(tab, 'tab-after-restart');
  const [viewer] = await Promise.all([context.waitForEvent('page'), tab.getByRole('link').click()]);
  await expect((await appFrame(viewer, bed.testbed)).frame.locator('#here')).toHaveText('Board');
  await tab.reload();
  await expect(tab.locator('#here')).toHaveText('Next');
});

test('an application that goes down while it is open is reported in its frame, in a tab and in the viewer, which recovers', async ({ page }) => {
  const { frame, origin } = await openBoard(page);
  await board.close();
  await frame.goto(`${origin}/next`);
  await expect(frame.locator('h1')).toContainText('The application hung up');
  await screenshot(page, 'application-down-in-frame');
  const tab = await page.context().newPage();
  await tab.goto(`${origin}/next`);
  await expectAccessible(tab, 'application-down');
  await tab.close();
  // Loaded again, the viewer reports it itself, and retries.
  await page.reload();
  await expect(page.getByTestId('viewer-wait')).toContainText('application', { ignoreCase: true });
  await expect(page.getByTestId('viewer-wait')).toHaveAttribute('data-seconds', /^[3-9]|\d\d/);
  await expectAccessible(page, 'viewer-application-down');
  // Started between two attempts: one that is under way would load the error page, and find the application up afterwards.
  await expect(page.getByTestId('viewer-wait')).toHaveAttribute('data-seconds', /^[3-9]|\d\d/);
  board = await RecordingApp.start(bed.ports.board, PAGES);
  await expect((await appFrame(page, bed.testbed)).frame.locator('#here')).toHaveText('Board');
});

test('a browser that stores no cookie for the application gets an explanation', async ({ page }) => {
  await openBoard(page);
  // The gateway's answer to a browser that sends no cookie.
  const headers = { 'access-control-allow-origin': bed.testbed.url, 'access-control-allow-credentials': 'true' };
  await page.route('**/.portcullis/state*', (route) => route.fulfill({ json: { state: 'none' }, headers }));
  await page.reload();
  await expect(page.getByTestId('end-page')).toHaveAttribute('data-reason', 'frame_blocked_cookie');
  await expectAccessible(page, 'viewer-application-cookie');
});
