// Hands on an RDP desktop: its size, characters and keys, a phone's fingers, a credential of one's own; and hands that are tied. Effects are read on the host.
import { type Page, expect, test } from '@playwright/test';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { House, type Person, freePort, until } from './house.ts';
import { press } from './layouts.ts';
import { SCREEN, fileOnHost, painted, prompted, shown } from './screen.ts';
import { NLA, NlaDesktop } from './servers.ts';
import { calling, signIn, tell } from './steps.ts';

let house: House;
let admin: Person;
let token: string;
let nla: NlaDesktop;

test.beforeAll(async () => {
  const services = { nla: await freePort() };
  house = await House.open({ services });
  admin = house.person('root@example.test', 'admin');
  token = await house.enrol(admin);
  nla = await NlaDesktop.start(house, services.nla);
});

test.afterAll(async ({}, info) => {
  tell(house, info);
  await house.close();
});

const api = calling(() => house, () => token);

async function open(page: Page, workspace: string): Promise<string> {
  await page.goto(house.url);
  await page.getByTestId(`launch-${workspace}`).click();
  await page.waitForURL('**/viewer/*');
  return page.url().split('/').at(-1)!;
}

async function leave(page: Page): Promise<void> {
  await house.call('POST', `/api/sessions/${page.url().split('/').at(-1)}/disconnect`, {}, token);
  await expect(page.getByTestId('end-page')).toHaveAttribute('data-reason', 'user_disconnected');
}

/** Types a line by its characters. */
async function write(page: Page, line: string): Promise<void> {
  await page.locator(SCREEN).click({ position: { x: 300, y: 300 } });
  await page.keyboard.type(line, { delay: 8 });
  await page.keyboard.press('Enter');
}

const pictureSize = (page: Page) => page.locator(SCREEN).evaluate((canvas: HTMLCanvasElement) => `${canvas.width} x ${canvas.height}`);
const entries = async (query: string): Promise<any[]> => (await api('GET', `/api/audit?limit=200&${query}`, undefined, 200)).entries;

/** A window that tells every key and button it gets, at a place where the terminal is not. */
const PAD = { x: 560, y: 380, width: 420, height: 340 };

/** What the window was told since the last look. */
class Pad {
  #seen = 0;
  readonly #log = join(house.dir, 'pad.log');

  static async start(): Promise<Pad> {
    const { x, y, width, height } = PAD;
    house.run('pad', 'stdbuf', ['-oL', 'xev', '-geometry', `${width}x${height}+${x}+${y}`, '-event', 'keyboard', '-event', 'mouse'], { DISPLAY: nla.display });
    const pad = new Pad();
    await until('the window is there', () => execFileSync('xwininfo', ['-root', '-tree'], { env: { ...process.env, DISPLAY: nla.display }, encoding: 'utf8' }).includes('"Event Tester"'));
    return pad;
  }

  forget(): void {
    this.#seen = readFileSync(this.#log, 'utf8').length;
  }

  get told(): string {
    return readFileSync(this.#log, 'utf8').slice(this.#seen);
  }

  /** Waits until it was told this; several lines of an event are one. */
  async hears(what: string, pattern: RegExp, ms = 60_000): Promise<void> {
    await until(what, () => pattern.test(this.told.replaceAll(/\n +/g, ' ')), ms).catch((error) => {
      throw new Error(`${error}\n${this.told}`);
    });
  }

  /** Does it until it was told this: on a machine that stands still, fingers are slower than they should be, and mean something else. */
  async hearsOf(what: string, act: () => Promise<void>, pattern: RegExp): Promise<void> {
    let last = '';
    await until(what, async () => {
      this.forget();
      await act();
      return this.hears(what, pattern, 5_000).then(
        () => true,
        (error: Error) => ((last = error.message), false),
      );
    }, 120_000).catch(() => {
      throw new Error(last);
    });
  }
}

test('an RDP desktop follows the window, and takes characters, keys and fingers; who may only look touches nothing', async ({ page, browser }) => {
  const errors: string[] = [];
  page.on('pageerror', (error) => errors.push(error.message));
  await signIn(page, house, admin);
  const home = house.home((await api('GET', '/api/auth/me', undefined, 200)).id);
  const host = (await api('GET', '/api/hosts', undefined, 200))[0].id;
  // A German desktop, under a keyboard that is not.
  await api('POST', '/api/workspaces', { id: 'ws-rdp', name: 'Windows-style', type: 'rdp', requires_mfa: false, server: { keyboard: '0x00000407' } }, 201);
  const target = { host_id: host, service: 'nla' };
  await api('POST', '/api/workspaces', { id: 'ws-nla', name: 'Accounting', type: 'rdp', requires_mfa: false, target, server: { credential: 'user' } }, 201);

  await test.step('the desktop follows the window, on the same stream', async () => {
    const session = await open(page, 'ws-rdp');
    await painted(page);
    await prompted(page);
    for (const [width, height] of [[1100, 700], [1400, 904], [1280, 800]] as const) {
      await page.setViewportSize({ width, height });
      await until(`the picture is ${width} x ${height}`, async () => (await pictureSize(page)) === `${width} x ${height}`);
      await painted(page);
    }
    expect(await entries(`action=open_stream&session_id=${session}`), 'nothing was connected to anew').toHaveLength(1);
    await page.getByTestId('toolbar-handle').click();
    await page.getByTestId('toolbar-settings').click();
    await page.getByTestId('keyboard-character').check();
    await page.getByTestId('toolbar-handle').click();
    await write(page, 'xrandr > size.txt');
    expect(await fileOnHost(join(home, 'size.txt'))).toContain('current 1280 x 800');
    await page.screenshot({ path: '../../test-results/rdp-follows.png' });
  });

  await test.step('characters arrive as they are, whatever keys they stand on here', async () => {
    await write(page, 'cat > text.txt');
    // With Shift and AltGr held where the desktop's own keyboard wants none, or others.
    await press(page, [['KeyA', 'z'], ['KeyB', 'ü'], ['+KeyC', 'ß'], ['KeyD', 'Ö'], ['+Digit2', '@'], ['^KeyF', '€'], ['+BracketLeft', '{'], ['KeyH', 'y']]);
    await page.keyboard.press('Enter');
    await page.keyboard.press('Control+d');
    expect(await fileOnHost(join(home, 'text.txt'))).toBe('züßÖ@€{y\n');
    await leave(page);
  });

  await test.step('a credential of one’s own is asked for once, kept, and forgotten', async () => {
    await open(page, 'ws-nla');
    const form = page.getByTestId('credential-form');
    await expect(form).toHaveAttribute('data-source', 'user', { timeout: 60_000 });
    await page.getByTestId('credential-username').fill(NLA.username);
    await page.getByTestId('credential-password').fill(NLA.password);
    await page.getByTestId('credential-submit').click();
    await shown(page);
    await leave(page);
    await open(page, 'ws-nla');
    await shown(page);
    await leave(page);
    await page.goto(`${house.url}/account`);
    await page.getByTestId('credential-forget').click();
    await page.getByTestId('confirm-ok').click();
    await expect(page.getByTestId('account-credentials')).toBeHidden();
    await open(page, 'ws-nla');
    await expect(form).toHaveAttribute('data-refused', 'false', { timeout: 60_000 });
    await house.call('POST', `/api/sessions/${page.url().split('/').at(-1)}/disconnect`, {}, token);
    for (const entry of await entries('')) expect(JSON.stringify(entry)).not.toContain(NLA.password);
    await api('PATCH', '/api/workspaces/ws-nla', { server: { credential: 'workspace', username: NLA.username }, password: NLA.password }, 200);
  });

  const pad = await Pad.start();
  await test.step('Ctrl Alt Del and the Windows key arrive', async () => {
    await open(page, 'ws-nla');
    await shown(page);
    const box = (await page.locator(SCREEN).boundingBox())!;
    const scale = box.width / 1024;
    await page.mouse.click(box.x + (PAD.x + 200) * scale, box.y + (PAD.y + 150) * scale);
    await pad.hears('a click', /ButtonPress .* button 1,/);
    await page.getByTestId('toolbar-handle').click();
    await page.getByTestId('toolbar-keys').click();
    await page.getByTestId('key-ctrl-alt-del').click();
    await pad.hears('Ctrl Alt Del', /KeyPress [^\n]* state 0xc, keycode \d+ \(keysym 0xffff, Delete\)/);
    await page.getByTestId('key-super').click();
    await pad.hears('the Windows key, pressed and let go', /KeyPress [^\n]*Super_L[^]*KeyRelease [^\n]*Super_L/);
    await page.getByTestId('toolbar-handle').click();
    await leave(page);
  });

  await test.step('a phone: tap, hold, drag, scroll and pinch', async () => {
    const context = await browser.newContext({ storageState: await page.context().storageState(), viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
    const phone = await context.newPage();
    await phone.addInitScript(() => localStorage.setItem('portcullis.viewer.hint', 'seen'));
    await open(phone, 'ws-nla');
    await shown(phone);
    const fingers = await context.newCDPSession(phone);
    const touch = (type: 'touchStart' | 'touchMove' | 'touchEnd', ...points: [number, number][]) =>
      fingers.send('Input.dispatchTouchEvent', { type, touchPoints: points.map(([x, y], id) => ({ x, y, id })) });
    const at = async (dx: number, dy: number): Promise<[number, number]> => {
      const box = (await phone.locator(SCREEN).boundingBox())!;
      const scale = box.width / 1024;
      return [box.x + (PAD.x + dx) * scale, box.y + (PAD.y + dy) * scale];
    };

    /** Fingers put down one after the other, moved along, and lifted. */
    const stroke = async (first: [number, number][], ...then: [number, number][][]) => {
      for (let n = 1; n <= first.length; n += 1) await touch('touchStart', ...first.slice(0, n));
      for (const points of then) await touch('touchMove', ...points);
      await touch('touchEnd');
    };
    const middle = await at(200, 170);
    const [x, y] = middle;
    const pair = (apart: number, down = 0): [number, number][] => [[x - apart, y + down], [x + apart, y + down]];

    await pad.hearsOf('a tap is a click', () => stroke([middle]), /ButtonPress [^\n]* button 1,[^]*ButtonRelease [^\n]* button 1,/);
    pad.forget();
    await touch('touchStart', middle);
    await pad.hears('holding is the right button', /ButtonPress [^\n]* button 3,[^]*ButtonRelease [^\n]* button 3,/);
    await touch('touchEnd');
    const along = [-30, 0, 30, 45].map((dx): [number, number][] => [[x + dx, y]]);
    const dragged = /ButtonPress [^\n]* button 1,[^]*MotionNotify [^\n]* state 0x100,[^]*ButtonRelease [^\n]* button 1,/;
    await pad.hearsOf('one finger drags', () => stroke([[x - 50, y]], ...along), dragged);
    await pad.hearsOf('two fingers scroll', () => stroke(pair(25, -40), pair(25, -20), pair(25), pair(25, 20), pair(25, 40)), /ButtonPress [^\n]* button [45],/);

    const width = async () => Math.round((await phone.locator(SCREEN).boundingBox())!.width);
    const pinched = (to: number, ...strokes: Parameters<typeof stroke>) =>
      until(`pinched to ${to}`, async () => {
        await stroke(...strokes);
        return until('', async () => (await width()) === to, 5_000).catch(() => false as const);
      }, 120_000);
    expect(await width(), 'fitted').toBe(390);
    await pinched(1024, pair(15), pair(25), pair(40), pair(60));
    await phone.screenshot({ path: '../../test-results/rdp-phone.png' });
    const together = [100, 92, 84, 76, 68, 60].map((apart): [number, number][] => [[200 - apart, 400], [200 + apart, 400]]);
    await pinched(390, ...(together as Parameters<typeof stroke>));
    await leave(phone);
    await context.close();
  });

  await test.step('who may only look: typing and clicking change nothing, nor do bytes of the browser’s own making, which are written down', async () => {
    await api('PATCH', '/api/workspaces/ws-nla', { policy: { clipboard: 'none', files: false, read_only: true } }, 200);
    await page.addInitScript(() => {
      const sockets: WebSocket[] = [];
      Object.assign(window, { sockets });
      window.WebSocket = class extends WebSocket {
        constructor(url: string | URL, protocols?: string | string[]) {
          super(url, protocols);
          sockets.push(this);
        }
      };
    });
    const session = await open(page, 'ws-nla');
    await shown(page);
    pad.forget();
    const box = (await page.locator(SCREEN).boundingBox())!;
    await page.mouse.click(box.x + box.width * 0.75, box.y + box.height * 0.7);
    await page.keyboard.type('abc');
    // Fast-path input (MS-RDPBCGR 2.2.8.1.2): the key A, down and up; the left button at the window's middle.
    await page.evaluate(([x, y]) => {
      const socket = (window as unknown as { sockets: WebSocket[] }).sockets.at(-1)!;
      socket.send(new Uint8Array([0x08, 6, 0x00, 0x1e, 0x01, 0x1e]));
      for (const flags of [0x9000, 0x1000]) socket.send(new Uint8Array([0x04, 9, 0x20, flags & 255, flags >> 8, x & 255, x >> 8, y & 255, y >> 8]));
    }, [PAD.x + 200, PAD.y + 150] as const);
    const written = await until('it is written down', async () => (await entries(`action=transfer_refused&session_id=${session}`)).find((entry) => entry.details.channel === 'input'));
    expect(written).toMatchObject({ outcome: 'denied', details: { direction: 'in' } });
    // The stream is alive, and what came behind would have arrived by now.
    await expect(page.getByTestId('viewer-state')).toHaveAttribute('data-state', 'connected');
    expect(pad.told).toBe('');
    await leave(page);
  });

  expect(errors).toEqual([]);
});
