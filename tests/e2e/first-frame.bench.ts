// For `make bench`, line p: from the click on a workspace to the first picture in the page, through the gateway and the agent as they are shipped.
// Writes its figures to the file that FRAMES names: for each kind of workspace, milliseconds of each launch, or why there are none.
import { existsSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { join } from 'node:path';
import { type Page, expect, test } from '@playwright/test';
import { Testbed, freePort, eventually } from './testbed.ts';
import { NLA, NlaDesktop, VNC_PASSWORD, startVncDesktop } from './upstreams.ts';
import { apiClient, dismissHint, printLogs, signIn } from './helpers.ts';

const LAUNCHES = Number(process.env.FRAMES_LAUNCHES ?? 10);
/** Fill caches, and are not counted. */
const WARM = 2;
const OUT = process.env.FRAMES ?? '../../test-results/frames.json';

type Figures = Record<string, { ms: number[] } | { absent: string }>;

let testbed: Testbed;
let token: string;
const figures: Figures = {};

test.afterAll(async ({}, info) => {
  if (!testbed) return;
  printLogs(testbed, info);
  await testbed.close();
});

const FOLDERS = [...(process.env.PATH ?? '').split(':'), '/usr/sbin'];
const missing = (programs: string[]) => programs.filter((name) => !FOLDERS.some((folder) => existsSync(join(folder, name))));

/** Records in every page and frame when a workspace was clicked and when something was painted. All times are this machine's. */
function recordTimes(): void {
  const now = () => performance.timeOrigin + performance.now();
  if (window !== window.top) {
    // The application's own page. When it painted the browser itself says.
    new PerformanceObserver((list) => {
      for (const { name, startTime } of list.getEntries()) if (name === 'first-contentful-paint') Object.assign(window, { painted: performance.timeOrigin + startTime });
    }).observe({ type: 'paint', buffered: true });
    return;
  }
  addEventListener(
    'click',
    ({ target }) => {
      if (!(target instanceof Element && target.closest('[data-testid^=launch-]'))) return;
      sessionStorage.removeItem('painted');
      sessionStorage.setItem('clicked', String(now()));
    },
    true,
  );
  if (!location.pathname.startsWith('/viewer/')) return;
  const look = () => {
    const canvas = document.querySelector<HTMLCanvasElement>('[data-testid=viewer-screen]');
    const colours = new Set<number>();
    if (canvas instanceof HTMLCanvasElement && canvas.width > 100) {
      // Some rows of pixels, so that looking takes little of the time that is measured.
      const context = canvas.getContext('2d');
      for (let row = 1; row < 16 && context; row += 1) {
        const { data } = context.getImageData(0, Math.floor((canvas.height * row) / 16), canvas.width, 1);
        for (let i = 0; i < data.length; i += 4 * 7) colours.add((data[i]! << 16) | (data[i + 1]! << 8) | data[i + 2]!);
      }
    }
    if (colours.size > 1) sessionStorage.setItem('painted', String(now()));
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}

/** When the first picture was there: the canvas's own, or the frame's of a web application. */
async function pictureTime(page: Page, application: boolean): Promise<number | undefined> {
  if (!application) return (await page.evaluate(() => Number(sessionStorage.getItem('painted')))) || undefined;
  const frame = page.frames().find((frame) => frame !== page.mainFrame() && frame.url().includes('.apps.'));
  return frame?.evaluate(() => (window as { painted?: number }).painted).catch(() => undefined);
}

/** One launch: milliseconds. Afterwards the session is over, on its host, too. */
async function launch(page: Page, workspace: string, application: boolean): Promise<number> {
  await page.goto(testbed.url);
  await page.getByTestId(`launch-${workspace}`).click();
  await page.waitForURL('**/viewer/*');
  const end = await eventually(`${workspace} is painted`, () => pictureTime(page, application), 60_000);
  const ms = end - (await page.evaluate(() => Number(sessionStorage.getItem('clicked'))));
  const session = page.url().split('/').at(-1);
  await testbed.request('POST', `/api/sessions/${session}/disconnect`, {}, token);
  await eventually('the session is over', async () => (await testbed.request('GET', `/api/sessions/${session}`, undefined, token)).body.status !== 'active' || undefined);
  await expect(page.getByTestId('end-page')).toBeVisible();
  return ms;
}

test('from the click to the first picture', async ({ page }) => {
  const ports = { nla: await freePort(), vnc: await freePort(), app: await freePort() };
  // A name with a site of its own, as in production, so that applications are of the same site.
  testbed = await Testbed.start({ services: ports, name: 'gate.localhost' });
  const admin = testbed.createUser('root@example.test', 'admin');
  token = await testbed.enrolTotp(admin);
  const api = apiClient(() => testbed, () => token);
  const host = (await api('GET', '/api/hosts', undefined, 200))[0].id;
  const app = createServer((_, answer) => answer.setHeader('content-type', 'text/html').end('<!doctype html><title>App</title><h1>Here</h1>')).listen(ports.app, '127.0.0.1');
  await once(app, 'listening');

  await dismissHint(page.context());
  await page.addInitScript(recordTimes);
  await signIn(page, testbed, admin);

  /** Makes the workspace, then launches it again and again. */
  const measure = async (kind: string, programs: string[], workspace: object, server: () => Promise<unknown> = async () => {}) => {
    const none = missing(programs);
    if (none.length > 0) {
      figures[kind] = { absent: `not installed: ${none.join(', ')}` };
      return;
    }
    try {
      await server();
      const id = `ws-bench-${kind}`;
      await api('POST', '/api/workspaces', { id, name: kind, requires_mfa: false, ...workspace }, 201);
      const ms: number[] = [];
      for (let turn = -WARM; turn < LAUNCHES; turn += 1) {
        const took = await launch(page, id, kind === 'html5');
        if (turn >= 0) ms.push(took);
      }
      figures[kind] = { ms };
      console.log(kind, ms.map(Math.round).join(' '));
    } catch (error) {
      figures[kind] = { absent: `failed: ${String(error).split('\n')[0]}` };
      console.log(kind, error);
    }
    writeFileSync(OUT, JSON.stringify(figures));
  };

  const service = (service: string) => ({ host_id: host, service });
  await measure('linux', ['Xtigervnc', 'bwrap'], { type: 'linux' });
  await measure('vnc', ['Xtigervnc', 'xterm', 'tigervncpasswd'], { type: 'vnc', target: service('vnc'), password: VNC_PASSWORD }, () => startVncDesktop(testbed, ports.vnc));
  await measure('rdp', ['xrdp', 'Xorg', 'bwrap'], { type: 'rdp' });
  await measure('nla', ['freerdp-shadow-cli', 'winpr-hash', 'Xvfb', 'xterm'], { type: 'rdp', target: service('nla'), server: { username: NLA.username }, password: NLA.password }, () => NlaDesktop.start(testbed, ports.nla));
  await measure('html5', [], { type: 'html5', target: service('app') });
  writeFileSync(OUT, JSON.stringify(figures));
  app.close();
});
