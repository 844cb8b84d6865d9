// Web applications of other people behind the gateway, in a real browser: JupyterLab, a wiki with users of its own, and one that is up to no good.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { type Page, expect, test } from '@playwright/test';
import { APPS, Apps, HERE, Witness, download, fileListed, fileOnHost, register, runCell, signInWiki, terminal, upload, writePage } from './apps.ts';
import { House, type Person, freePort, until } from './house.ts';
import { type Shown, framed as frameOf, open as openIn, originOf as originIn } from './portal.ts';
import { calling, shot, signIn as enterPortal, tell } from './steps.ts';

let house: House;
let apps: Apps;
let witness: Witness;
let admin: Person;
let token: string;
let host: string;
let ports: Record<'lab' | 'lab2' | 'wiki' | 'httpbin' | 'echo' | 'witness', number>;
let folders: { lab: string; lab2: string };

/** Breaks out of frames, where it may. */
const BUSTER = `<!doctype html><title>Buster</title><h1 id="here">here</h1><script>
  window.outcome = 'tried';
  try { top.location = 'https://example.invalid/'; } catch (e) { window.outcome = e.name; }
  try { window.peeked = top.document.title; } catch (e) { window.peeked = e.name; }
</script>`;

/** A service worker that keeps what passes it, and tells whoever asks. */
const WORKER = `const passed = [];
  addEventListener('install', () => skipWaiting());
  addEventListener('activate', (event) => event.waitUntil(clients.claim()));
  addEventListener('fetch', (event) => passed.push(event.request.method + ' ' + new URL(event.request.url).pathname));
  addEventListener('message', (event) => event.ports[0].postMessage(passed));`;

test.beforeAll(async () => {
  ports = { lab: await freePort(), lab2: await freePort(), wiki: await freePort(), httpbin: await freePort(), echo: await freePort(), witness: await freePort() };
  // A name with a site of its own, and the applications below it, as in production: browsers that keep third parties out let these store things.
  house = await House.open({ services: ports, name: 'gate.localhost' });
  apps = new Apps(house);
  witness = await Witness.start(ports.witness, {
    '/': { body: '<!doctype html><title>Witness</title><h1>Witness</h1>' },
    '/sets': { body: 'set', headers: { 'set-cookie': ['x=good; Path=/', 'wide=1; Domain=gate.localhost; Path=/', '__Host-portcullis-app=stolen; Secure; Path=/'] } },
    '/sees': { body: 'seen' },
    '/worker.js': { body: WORKER, headers: { 'content-type': 'text/javascript' } },
    '/buster': { body: BUSTER, headers: { 'x-frame-options': 'DENY', 'content-security-policy': "frame-ancestors 'none'" } },
  });
  const [lab, lab2] = await Promise.all([apps.jupyter('lab', ports.lab), apps.jupyter('lab2', ports.lab2), apps.wiki(ports.wiki), apps.httpbin(ports.httpbin), apps.echo(ports.echo)]);
  folders = { lab, lab2 };
  admin = house.person('root@example.test', 'admin');
  token = await house.enrol(admin);
  host = (await api('GET', '/api/hosts', undefined, 200))[0].id;
});

test.afterAll(async ({}, info) => {
  tell(house, info);
  await apps?.close();
  await witness?.close();
  await house.close();
});

const api = calling(() => house, () => token);

/** A workspace of one of the services. */
async function workspace(id: string, name: string, service: keyof typeof ports, web: object = {}): Promise<void> {
  await api('POST', '/api/workspaces', { id, name, type: 'html5', target: { host_id: host, service }, web, requires_mfa: false }, 201);
}

const signIn = (page: Page) => enterPortal(page, house, admin);
const framed = (page: Page) => frameOf(page, house);
const open = (page: Page, id: string) => openIn(page, house, id);
const originOf = (session: string) => originIn(house, session);

/** What a program does that has no viewer: a session, a ticket, and the cookie it becomes. */
async function enter(id: string): Promise<{ origin: string; cookie: string; session: string }> {
  const launched = await house.call('POST', `/api/workspaces/${id}/launch`, {}, token);
  const session: string = launched.body.session_id;
  if (!session) throw new Error(`not launched: ${JSON.stringify(launched)}`);
  await until('the session is active', async () => (await api('GET', `/api/sessions/${session}`, undefined, 200)).status === 'active');
  const { ticket } = (await house.call('POST', `/api/sessions/${session}/ticket`, {}, token)).body;
  const origin = originOf(session);
  const cookie = await new Promise<string>((done, failed) => {
    const headers = { host: new URL(origin).host, origin: house.url, 'content-type': 'application/x-www-form-urlencoded' };
    const ca = readFileSync(join(house.dir, 'gateway/tls/ca.pem'));
    const ask = request({ host: '127.0.0.1', port: house.port, servername: new URL(origin).hostname, method: 'POST', path: '/.portcullis/enter', headers, ca, agent: false }, (answer) => {
      answer.resume();
      const [cookie] = answer.headers['set-cookie'] ?? [];
      if (answer.statusCode === 303 && cookie) done(cookie.split(';')[0]!);
      else failed(new Error(`no entry: ${answer.statusCode}`));
    });
    ask.on('error', failed).end(`ticket=${ticket}`);
  });
  return { origin, cookie, session };
}

test('JupyterLab, a wiki and a hostile page, each sealed in its session', async ({ page, context }) => {
  await workspace('ws-lab', 'Notebooks', 'lab', { start: '/lab/tree/notes.ipynb', host: `localhost:${ports.lab}` });
  await workspace('ws-lab2', 'Notebooks, second team', 'lab2', { start: '/lab/tree/notes.ipynb', host: `localhost:${ports.lab2}` });
  await workspace('ws-wiki', 'Team wiki', 'wiki');
  await workspace('ws-witness', 'Witness', 'witness');
  await workspace('ws-witness2', 'Second witness', 'witness');
  await signIn(page);

  let lab!: Shown;
  await test.step('a notebook opens through the portal, and its kernel computes', async () => {
    const began = Date.now();
    lab = await open(page, 'ws-lab');
    expect(await runCell(page, lab.frame, 'secret = 6 * 7; print(secret)')).toBe('42');
    console.log(`launch to the first cell run: ${Date.now() - began} ms`);
    await page.getByTestId('toolbar-handle').hover();
    await expect(page.getByTestId('toolbar-disconnect')).toBeVisible();
    await shot(page, 'web-application');
  });

  await test.step('its terminal is a shell on the host', async () => {
    await terminal(page, lab.frame, 'echo "in a terminal $((6*7))" > ~/terminal.txt');
    expect(await fileOnHost(join(house.dir, 'terminal.txt'))).toBe('in a terminal 42\n');
  });

  await test.step('a file goes up and comes back the same', async () => {
    const bytes = randomBytes(3 << 20);
    await upload(page, lab.frame, 'data.bin', bytes, folders.lab);
    await expect(fileListed(lab.frame, 'data.bin')).toBeVisible();
    expect((await download(page, lab.frame, 'data.bin')).equals(bytes)).toBe(true);
  });

  await test.step('a second one beside it has a state of its own', async () => {
    const second = await open(await context.newPage(), 'ws-lab2');
    expect(second.origin).not.toBe(lab.origin);
    expect(await runCell(second.page, second.frame, "print('secret' in globals())")).toBe('False');
    await expect(fileListed(second.frame, 'data.bin')).toHaveCount(0);
    expect(await second.frame.evaluate(() => localStorage.setItem('mine', 'second'))).toBeUndefined();
    expect(await lab.frame.evaluate(() => localStorage.getItem('mine'))).toBeNull();
    await page.bringToFront();
    await second.page.close();
  });

  await test.step('disconnecting ends it at once, and the page says why', async () => {
    await page.getByTestId('toolbar-handle').hover();
    await page.getByTestId('toolbar-disconnect').click();
    const began = Date.now();
    await page.getByTestId('confirm-disconnect').click();
    await expect(page.getByTestId('end-page')).toHaveAttribute('data-reason', 'user_disconnected');
    console.log(`disconnect to end page: ${Date.now() - began} ms`);
    await shot(page, 'lab-ended');
  });

  await test.step('a tab of an ended session says so, too', async () => {
    const tab = await context.newPage();
    const answer = await tab.goto(`${lab.origin}/lab`);
    expect(answer?.ok()).toBe(false);
    await expect(tab.locator('h1')).toBeVisible();
    expect(await tab.locator('body').innerText()).toMatch(/ended|disconnected/i);
    await shot(tab, 'app-ended-tab');
    await tab.close();
  });

  await test.step('a wiki: register, be redirected, sign in, stay signed in, write', async () => {
    const wiki = await open(page, 'ws-wiki');
    const author = { email: 'ada@example.test', name: 'Ada Example', password: 'Wiki-Pass-1' };
    await register(wiki.frame, author);
    await signInWiki(wiki.frame, author);
    expect(wiki.frame.url()).toBe(`${wiki.origin}/`);
    await writePage(page, wiki.frame, 'Plans', 'We ship on *Friday*.');
    await expect(wiki.frame.locator('em', { hasText: 'Friday' })).toBeVisible();
    expect(wiki.frame.url()).toContain(`${wiki.origin}/Plans`);
    await shot(page, 'wiki');
    // The viewer anew: the application's cookie is kept by its origin.
    await page.reload();
    const again = await framed(page);
    await expect(again.frame.locator('a[href="/-/logout"]').first()).toBeAttached();
  });

  await test.step('a page that breaks out of frames stays in its own', async () => {
    const { frame, origin } = await open(page, 'ws-witness');
    const viewer = page.url();
    await frame.goto(`${origin}/buster`);
    await expect(frame.locator('#here')).toBeVisible();
    const outcome = await frame.evaluate(() => [(window as any).outcome, (window as any).peeked]);
    expect(outcome[1]).toBe('SecurityError');
    expect(page.url(), 'the viewer is still there').toBe(viewer);
    await shot(page, 'frame-buster');
  });

  await test.step('its service worker sees its own requests, and no ticket', async () => {
    const { frame } = await open(page, 'ws-witness');
    await frame.evaluate(async () => {
      await navigator.serviceWorker.register('/worker.js');
      await navigator.serviceWorker.ready;
    });
    // The way in once more, now past the worker.
    await page.reload();
    const again = await framed(page);
    await expect(again.frame.locator('h1')).toHaveText('Witness');
    const passed: string[] = await again.frame.evaluate(
      () =>
        new Promise((done) => {
          const { port1, port2 } = new MessageChannel();
          port1.onmessage = (event) => done(event.data);
          navigator.serviceWorker.controller!.postMessage(null, [port2]);
        }),
    );
    expect(passed).toContain('GET /');
    expect(passed.filter((line) => line.includes('.portcullis'))).toEqual([]);
    await again.frame.evaluate(async () => (await navigator.serviceWorker.ready).unregister());
  });

  await test.step('a sibling cannot toss cookies, and none but the application’s own arrive', async () => {
    const [one, two] = [await open(await context.newPage(), 'ws-witness'), await open(await context.newPage(), 'ws-witness2')];
    await two.frame.goto(`${two.origin}/sets`);
    // In the first session's page: for every name below the domain, the second session's among them.
    await one.frame.evaluate(() => {
      document.cookie = 'x=evil; domain=gate.localhost; path=/; SameSite=None; Secure';
      document.cookie = 'x=worse; domain=gate.localhost; path=/sees; SameSite=None; Secure';
      document.cookie = 'x=worst; domain=gate.localhost; path=/sees';
    });
    await two.frame.goto(`${two.origin}/sees`);
    const sees = witness.last('/sees').headers;
    const cookies = (sees.cookie ?? '').split(/; */).filter(Boolean);
    expect(cookies.filter((cookie) => cookie.startsWith('x='))).toEqual(['x=good']);
    expect(sees.cookie ?? '').not.toContain('portcullis');
    // What the second one set for the whole domain, the first has not got.
    await one.frame.goto(`${one.origin}/sees`);
    expect(witness.last('/sees').headers.cookie ?? '').not.toMatch(/wide|portcullis|good/);
    for (const header of ['authorization', 'x-csrf-token']) expect(sees[header], header).toBeUndefined();
    await Promise.all([one.page.close(), two.page.close()]);
  });

  await test.step('an admin cuts one that is open: nothing passes any more, and the page says why', async () => {
    const { frame, session, origin } = await open(page, 'ws-witness2');
    const cut = Date.now();
    await api('POST', `/api/admin/sessions/${session}/terminate`, {}, 200);
    const status = await frame.evaluate(async (url) => (await fetch(url)).status, `${origin}/sees`).catch(() => 0);
    console.log(`cut to the first refusal: ${Date.now() - cut} ms (${status})`);
    expect(status).not.toBe(200);
    await expect(page.getByTestId('end-page')).toHaveAttribute('data-reason', 'admin_stopped');
    console.log(`cut to end page: ${Date.now() - cut} ms`);
  });

  await test.step('the toolbar can be reached by the keyboard', async () => {
    await open(page, 'ws-witness');
    const reached = await until('the toolbar has the focus', async () => {
      await page.keyboard.press('Tab');
      return page.evaluate(() => document.activeElement?.closest('[data-testid^=toolbar]')?.getAttribute('data-testid') ?? undefined);
    });
    expect(reached).toMatch(/^toolbar/);
  });

  await test.step('an admin reads what was asked, without what was in it', async () => {
    const { requests } = await api('GET', `/api/sessions/${lab.session}/requests?limit=200`, undefined, 200);
    expect(requests.length).toBeGreaterThan(20);
    expect(JSON.stringify(requests)).not.toContain('?');
    expect(house.cli('audit', 'verify')).toContain('whole and unaltered');
  });
});

/** Runs a program of the suites against an open application, and returns what it said. */
async function suite(args: string[], cwd: string, at: { origin: string; cookie: string }): Promise<{ code: number | null; said: string }> {
  const env = { ...process.env, PORTAL_ORIGIN: at.origin, PORTAL_COOKIE: at.cookie, PORTAL_CA: join(house.dir, 'gateway/tls/ca.pem'), PYTHONPATH: HERE, PYTHONDONTWRITEBYTECODE: '1' };
  const child = spawn(join(APPS, 'bin/python'), args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (piece) => (said += piece));
  const [code] = await once(child, 'exit');
  return { code, said };
}

test('other people’s suites: requests’ own tests over HTTP, the Autobahn cases over WebSockets', async () => {
  await workspace('ws-httpbin', 'httpbin', 'httpbin');
  await workspace('ws-echo', 'Echo', 'echo');

  await test.step('requests’ own tests', async () => {
    const { code, said } = await suite(['-m', 'pytest', '-q', '-p', 'portal', '-p', 'no:cacheprovider', 'tests/test_requests.py'], join(APPS, 'suite'), await enter('ws-httpbin'));
    console.log(/^.*\d+ passed.*$/m.exec(said)?.[0]);
    expect(code, said).toBe(0);
  });

  await test.step('the Autobahn cases', async () => {
    const { code, said } = await suite([join(HERE, 'sockets.py')], house.dir, await enter('ws-echo'));
    console.log(/^.*\d+ passed.*$/m.exec(said)?.[0]);
    expect(code, said).toBe(0);
  });
});
