// Web applications behind the gateway, in a real browser: JupyterLab, a wiki with its own users, an application that misbehaves, and other projects' test suites.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { type Page, expect } from '@playwright/test';
import { type OpenApp, appFrame, openApp, originOf } from './app-frame.ts';
import { APPS, Apps, HERE, RecordingApp, download, fileListed, register, runCell, signInWiki, terminal, upload, writePage } from './apps.ts';
import { screenshot, testsOn } from './helpers.ts';
import { fileOnHost } from './screen.ts';
import { eventually } from './testbed.ts';

type Service = 'lab' | 'lab2' | 'wiki' | 'httpbin' | 'echo' | 'recorder';

let apps: Apps;
let recorder: RecordingApp;
let folders: { lab: string; lab2: string };

/** Tries to break out of its frame. */
const FRAME_BUSTER = `<!doctype html><title>Buster</title><h1 id="here">here</h1><script>
  window.outcome = 'tried';
  try { top.location = 'https://example.invalid/'; } catch (e) { window.outcome = e.name; }
  try { window.peeked = top.document.title; } catch (e) { window.peeked = e.name; }
</script>`;

/** A service worker that records the requests it sees, and reports them on request. */
const WORKER = `const passed = [];
  addEventListener('install', () => skipWaiting());
  addEventListener('activate', (event) => event.waitUntil(clients.claim()));
  addEventListener('fetch', (event) => passed.push(event.request.method + ' ' + new URL(event.request.url).pathname));
  addEventListener('message', (event) => event.ports[0].postMessage(passed));`;

const { test, bed } = testsOn<Service>({
  services: ['lab', 'lab2', 'wiki', 'httpbin', 'echo', 'recorder'],
  // The applications' domain is below the gateway's name, as in production: browsers that block third-party storage allow it then.
  name: 'gate.localhost',
  async setUp(bed) {
    const { ports } = bed;
    apps = new Apps(bed.testbed);
    recorder = await RecordingApp.start(ports.recorder, {
      '/': { body: '<!doctype html><title>Recorder</title><h1>Recorder</h1>' },
      '/sets': { body: 'set', headers: { 'set-cookie': ['x=good; Path=/', 'wide=1; Domain=gate.localhost; Path=/', '__Host-portcullis-app=stolen; Secure; Path=/'] } },
      '/sees': { body: 'seen' },
      '/worker.js': { body: WORKER, headers: { 'content-type': 'text/javascript' } },
      '/buster': { body: FRAME_BUSTER, headers: { 'x-frame-options': 'DENY', 'content-security-policy': "frame-ancestors 'none'" } },
    });
    const [lab, lab2] = await Promise.all([apps.jupyter('lab', ports.lab), apps.jupyter('lab2', ports.lab2), apps.wiki(ports.wiki), apps.httpbin(ports.httpbin), apps.echo(ports.echo)]);
    folders = { lab, lab2 };
    const workspace = (id: string, name: string, service: Service, web: object = {}) =>
      bed.api('POST', '/api/workspaces', { id, name, type: 'html5', target: bed.service(service), web, requires_mfa: false }, 201);
    await workspace('ws-lab', 'Notebooks', 'lab', { start: '/lab/tree/notes.ipynb', host: `localhost:${ports.lab}` });
    await workspace('ws-lab2', 'Notebooks, second team', 'lab2', { start: '/lab/tree/notes.ipynb', host: `localhost:${ports.lab2}` });
    await workspace('ws-wiki', 'Team wiki', 'wiki');
    await workspace('ws-recorder', 'Recorder', 'recorder');
    await workspace('ws-recorder2', 'Second recorder', 'recorder');
    await workspace('ws-httpbin', 'httpbin', 'httpbin');
    await workspace('ws-echo', 'Echo', 'echo');
  },
  async tearDown() {
    await apps?.close();
    await recorder?.close();
  },
});

const open = (page: Page, id: string): Promise<OpenApp> => openApp(page, bed.testbed, id);

const endPage = (page: Page) => page.getByTestId('end-page');

test('a JupyterLab notebook opens, and its kernel computes', async ({ page }) => {
  const began = Date.now();
  const lab = await open(page, 'ws-lab');
  expect(await runCell(page, lab.frame, 'secret = 6 * 7; print(secret)')).toBe('42');
  console.log(`launch to the first cell run: ${Date.now() - began} ms`);
  await page.getByTestId('toolbar-handle').hover();
  await expect(page.getByTestId('toolbar-disconnect')).toBeVisible();
  await screenshot(page, 'web-application');
});

test('JupyterLab\'s terminal is a shell on the host', async ({ page }) => {
  const lab = await open(page, 'ws-lab');
  const file = join(bed.testbed.dir, 'terminal.txt');
  await terminal(page, lab.frame, 'echo "in a terminal $((6*7))" > ~/t; mv ~/t ~/terminal.txt', file);
  expect(await fileOnHost(file)).toBe('in a terminal 42\n');
});

test('a file is uploaded to JupyterLab and downloaded unchanged', async ({ page }) => {
  const lab = await open(page, 'ws-lab');
  const bytes = randomBytes(3 << 20);
  await upload(page, lab.frame, 'data.bin', bytes, folders.lab);
  await expect(fileListed(lab.frame, 'data.bin')).toBeVisible();
  expect((await download(page, lab.frame, 'data.bin')).equals(bytes)).toBe(true);
});

test('two sessions side by side share no state', async ({ page }) => {
  const first = await open(page, 'ws-lab');
  expect(await runCell(page, first.frame, 'secret = 1; print(secret)')).toBe('1');
  const second = await open(await page.context().newPage(), 'ws-lab2');
  expect(second.origin).not.toBe(first.origin);
  expect(await runCell(second.page, second.frame, "print('secret' in globals())")).toBe('False');
  await second.frame.evaluate(() => localStorage.setItem('mine', 'second'));
  expect(await first.frame.evaluate(() => localStorage.getItem('mine'))).toBeNull();
});

test('disconnecting ends the application at once, in the viewer and in a tab', async ({ page }) => {
  const app = await open(page, 'ws-recorder');
  await page.getByTestId('toolbar-handle').hover();
  await page.getByTestId('toolbar-disconnect').click();
  const began = Date.now();
  await page.getByTestId('confirm-disconnect').click();
  await expect(endPage(page)).toHaveAttribute('data-reason', 'user_disconnected');
  console.log(`disconnect to end page: ${Date.now() - began} ms`);
  await screenshot(page, 'lab-ended');

  const tab = await page.context().newPage();
  const answer = await tab.goto(`${app.origin}/sees`);
  expect(answer?.ok()).toBe(false);
  await expect(tab.locator('h1')).toBeVisible();
  expect(await tab.locator('body').innerText()).toMatch(/ended|disconnected/i);
  await screenshot(tab, 'app-ended-tab');
});

test('a wiki: registration, redirects, sign-in that outlives a reload, and writing', async ({ page }) => {
  const wiki = await open(page, 'ws-wiki');
  const author = { email: 'ada@example.test', name: 'Ada Example', password: 'Wiki-Pass-1' };
  await register(wiki.frame, author);
  await signInWiki(wiki.frame, author);
  expect(wiki.frame.url()).toBe(`${wiki.origin}/`);
  await writePage(page, wiki.frame, 'Plans', 'We ship on *Friday*.');
  await expect(wiki.frame.locator('em', { hasText: 'Friday' })).toBeVisible();
  expect(wiki.frame.url()).toContain(`${wiki.origin}/Plans`);
  await screenshot(page, 'wiki');
  // The application's cookie belongs to its origin, and is still there.
  await page.reload();
  const again = await appFrame(page, bed.testbed);
  await expect(again.frame.locator('a[href="/-/logout"]').first()).toBeAttached();
});

test('a page that tries to break out of its frame stays in it', async ({ page }) => {
  const { frame, origin } = await open(page, 'ws-recorder');
  const viewer = page.url();
  await frame.goto(`${origin}/buster`);
  await expect(frame.locator('#here')).toBeVisible();
  expect(await frame.evaluate(() => (window as any).peeked)).toBe('SecurityError');
  expect(page.url(), 'the viewer is still there').toBe(viewer);
  await screenshot(page, 'frame-buster');
});

test('an application\'s service worker sees its own requests and no ticket', async ({ page }) => {
  const { frame } = await open(page, 'ws-recorder');
  await frame.evaluate(async () => {
    await navigator.serviceWorker.register('/worker.js');
    await navigator.serviceWorker.ready;
  });
  // The application is opened once more, now with the worker active.
  await page.reload();
  const again = await appFrame(page, bed.testbed);
  await expect(again.frame.locator('h1')).toHaveText('Recorder');
  const seen: string[] = await again.frame.evaluate(
    () =>
      new Promise((done) => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = (event) => done(event.data);
        navigator.serviceWorker.controller!.postMessage(null, [port2]);
      }),
  );
  expect(seen).toContain('GET /');
  expect(seen.filter((line) => line.includes('.portcullis'))).toEqual([]);
});

test('cookies set by a sibling application or for the whole domain do not arrive', async ({ page }) => {
  const context = page.context();
  const [one, two] = [await open(await context.newPage(), 'ws-recorder'), await open(await context.newPage(), 'ws-recorder2')];
  await two.frame.goto(`${two.origin}/sets`);
  // In the first session's page: for every name below the domain, the second session's among them.
  await one.frame.evaluate(() => {
    document.cookie = 'x=evil; domain=gate.localhost; path=/; SameSite=None; Secure';
    document.cookie = 'x=worse; domain=gate.localhost; path=/sees; SameSite=None; Secure';
    document.cookie = 'x=worst; domain=gate.localhost; path=/sees';
  });
  await two.frame.goto(`${two.origin}/sees`);
  const { headers } = recorder.last('/sees');
  const cookies = (headers.cookie ?? '').split(/; */).filter(Boolean);
  expect(cookies.filter((cookie) => cookie.startsWith('x='))).toEqual(['x=good']);
  expect(headers.cookie ?? '').not.toContain('portcullis');
  // The second session's cookie for the whole domain does not reach the first.
  await one.frame.goto(`${one.origin}/sees`);
  expect(recorder.last('/sees').headers.cookie ?? '').not.toMatch(/wide|portcullis|good/);
  for (const header of ['authorization', 'x-csrf-token']) expect(headers[header], header).toBeUndefined();
});

test('an application that an administrator terminates answers nothing any more, and the viewer gives the reason', async ({ page }) => {
  const { frame, session, origin } = await open(page, 'ws-recorder');
  const began = Date.now();
  await bed.api('POST', `/api/admin/sessions/${session}/terminate`, {}, 200);
  const status = await frame.evaluate(async (url) => (await fetch(url)).status, `${origin}/sees`).catch(() => 0);
  console.log(`terminate to the first refusal: ${Date.now() - began} ms (${status})`);
  expect(status).not.toBe(200);
  await expect(endPage(page)).toHaveAttribute('data-reason', 'admin_stopped');
  console.log(`terminate to end page: ${Date.now() - began} ms`);
});

test('the toolbar is reachable by keyboard', async ({ page }) => {
  await open(page, 'ws-recorder');
  const reached = await eventually('the toolbar has the focus', async () => {
    await page.keyboard.press('Tab');
    return page.evaluate(() => document.activeElement?.closest('[data-testid^=toolbar]')?.getAttribute('data-testid') ?? undefined);
  });
  expect(reached).toMatch(/^toolbar/);
});

test('an administrator reads the request log, without query strings', async ({ page }) => {
  const lab = await open(page, 'ws-lab');
  expect(await runCell(page, lab.frame, 'print(6 * 7)')).toBe('42');
  const { requests } = await eventually('the requests are logged', async () => {
    const log = await bed.api('GET', `/api/sessions/${lab.session}/requests?limit=200`, undefined, 200);
    return log.requests.length > 20 && log;
  });
  expect(JSON.stringify(requests)).not.toContain('?');
  expect(bed.testbed.cli('audit', 'verify')).toContain('whole and unaltered');
});

test.describe('other projects\' test suites', () => {
  /** Opens a session without a viewer: launch, ticket, and the cookie it becomes. */
  async function enter(id: string): Promise<{ origin: string; cookie: string }> {
    const { testbed, token } = bed;
    const launched = await testbed.request('POST', `/api/workspaces/${id}/launch`, {}, token);
    const session: string = launched.body.session_id;
    if (!session) throw new Error(`not launched: ${JSON.stringify(launched)}`);
    await eventually('the session is active', async () => (await bed.api('GET', `/api/sessions/${session}`, undefined, 200)).status === 'active');
    const { ticket } = (await testbed.request('POST', `/api/sessions/${session}/ticket`, {}, token)).body;
    const origin = originOf(testbed, session);
    const cookie = await new Promise<string>((done, failed) => {
      const headers = { host: new URL(origin).host, origin: testbed.url, 'content-type': 'application/x-www-form-urlencoded' };
      const ca = readFileSync(join(testbed.dir, 'gateway/tls/ca.pem'));
      const entry = request({ host: '127.0.0.1', port: testbed.port, servername: new URL(origin).hostname, method: 'POST', path: '/.portcullis/enter', headers, ca, agent: false }, (answer) => {
        answer.resume();
        const [cookie] = answer.headers['set-cookie'] ?? [];
        if (answer.statusCode === 303 && cookie) done(cookie.split(';')[0]!);
        else failed(new Error(`no entry: ${answer.statusCode}`));
      });
      entry.on('error', failed).end(`ticket=${ticket}`);
    });
    return { origin, cookie };
  }

  /** Runs a program of a suite against an open application, and returns its output. */
  async function runSuite(args: string[], cwd: string, { origin, cookie }: { origin: string; cookie: string }): Promise<void> {
    const env = { ...process.env, PORTAL_ORIGIN: origin, PORTAL_COOKIE: cookie, PORTAL_CA: join(bed.testbed.dir, 'gateway/tls/ca.pem'), PYTHONPATH: HERE, PYTHONDONTWRITEBYTECODE: '1' };
    const child = spawn(join(APPS, 'bin/python'), args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (piece) => (output += piece));
    const [code] = await once(child, 'exit');
    console.log(/^.*\d+ passed.*$/m.exec(output)?.[0]);
    expect(code, output).toBe(0);
  }

  test('requests\' own tests pass over HTTP', async () => {
    await runSuite(['-m', 'pytest', '-q', '-p', 'portal', '-p', 'no:cacheprovider', 'tests/test_requests.py'], join(APPS, 'suite'), await enter('ws-httpbin'));
    await bed.endSessions();
  });

  test('the Autobahn cases pass over WebSockets', async () => {
    await runSuite([join(HERE, 'sockets.py')], bed.testbed.dir, await enter('ws-echo'));
    await bed.endSessions();
  });
});
