// Input on an RDP desktop: window size, characters, special keys, touch, a user's own credential, and a read-only workspace. Effects are read on the host.
import { type Page, expect } from '@playwright/test';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { dismissHint, launch, screenshot, testsOn } from './helpers.ts';
import { JAPANESE, LAYOUTS, pressKeys } from './layouts.ts';
import { SCREEN, fileOnHost, startCat, waitForDesktop, waitForPicture, waitForShell } from './screen.ts';
import { type Testbed, eventually } from './testbed.ts';
import { NLA, NlaDesktop } from './upstreams.ts';

/** Where the window that logs events is: not where the terminal is. */
const WINDOW = { x: 560, y: 380, width: 420, height: 340 };

/** A window of `xev`, which logs every key and button event it gets. */
class EventWindow {
  #read = 0;
  readonly #log: string;

  private constructor(testbed: Testbed) {
    this.#log = join(testbed.dir, 'xev.log');
  }

  static async start(testbed: Testbed, display: string): Promise<EventWindow> {
    const { x, y, width, height } = WINDOW;
    testbed.spawn('xev', 'stdbuf', ['-oL', 'xev', '-geometry', `${width}x${height}+${x}+${y}`, '-event', 'keyboard', '-event', 'mouse'], { DISPLAY: display });
    await eventually('the window is there', () => execFileSync('xwininfo', ['-root', '-tree'], { env: { ...process.env, DISPLAY: display }, encoding: 'utf8' }).includes('"Event Tester"'));
    return new EventWindow(testbed);
  }

  /** Ignores the events so far. */
  reset(): void {
    this.#read = readFileSync(this.#log, 'utf8').length;
  }

  /** The events since the last reset. */
  get events(): string {
    return readFileSync(this.#log, 'utf8').slice(this.#read);
  }

  /** Waits for events; several lines of one event are joined. */
  async expectEvents(what: string, pattern: RegExp, ms = 60_000): Promise<void> {
    await eventually(what, () => pattern.test(this.events.replaceAll(/\n +/g, ' ')), ms).catch((error) => {
      throw new Error(`${error}\n${this.events}`);
    });
  }

  /** Repeats an action until it causes the events: on a machine that stalls, a gesture is slower than intended and means something else. */
  async expectEventsOf(what: string, action: () => Promise<void>, pattern: RegExp): Promise<void> {
    let last = '';
    await eventually(what, async () => {
      this.reset();
      await action();
      return this.expectEvents(what, pattern, 5_000).then(
        () => true,
        (error: Error) => ((last = error.message), false),
      );
    }, 120_000).catch(() => {
      throw new Error(last);
    });
  }
}

let nla: NlaDesktop;
let events: EventWindow;

const { test, bed } = testsOn({
  services: ['nla'],
  async setUp(bed) {
    nla = await NlaDesktop.start(bed.testbed, bed.ports.nla);
    events = await EventWindow.start(bed.testbed, nla.display);
    // A German desktop, under a keyboard that is not.
    await bed.api('POST', '/api/workspaces', { id: 'ws-rdp', name: 'Windows-style', type: 'rdp', requires_mfa: false, server: { keyboard: '0x00000407' } }, 201);
    await bed.api('POST', '/api/workspaces', { id: 'ws-any', name: 'Without a layout', type: 'rdp', requires_mfa: false }, 201);
    const nlaWorkspace = { name: 'Accounting', type: 'rdp', target: bed.service('nla'), requires_mfa: false };
    await bed.api('POST', '/api/workspaces', { id: 'ws-nla', ...nlaWorkspace, server: { credential: 'workspace', username: NLA.username }, password: NLA.password }, 201);
    await bed.api('POST', '/api/workspaces', { id: 'ws-own', ...nlaWorkspace, server: { credential: 'user' } }, 201);
    const policy = { clipboard: 'none', files: false, read_only: true };
    await bed.api('POST', '/api/workspaces', { id: 'ws-locked', ...nlaWorkspace, server: { credential: 'workspace', username: NLA.username }, password: NLA.password, policy }, 201);
  },
});

const pictureSize = (page: Page) => page.locator(SCREEN).evaluate((canvas: HTMLCanvasElement) => `${canvas.width} x ${canvas.height}`);

async function openRdp(page: Page): Promise<string> {
  const session = await launch(page, bed.testbed, 'ws-rdp');
  await waitForDesktop(page);
  await waitForShell(page, bed.home);
  return session;
}

async function openNla(page: Page, workspace = 'ws-nla'): Promise<string> {
  const session = await launch(page, bed.testbed, workspace);
  await waitForPicture(page);
  return session;
}

/** Chooses that characters are sent, whatever key they are on. */
async function sendCharacters(page: Page): Promise<void> {
  await page.getByTestId('toolbar-handle').click();
  await page.getByTestId('toolbar-settings').click();
  await page.getByTestId('keyboard-character').check();
  await page.getByTestId('toolbar-handle').click();
}

async function typeLine(page: Page, line: string): Promise<void> {
  await page.locator(SCREEN).click({ position: { x: 300, y: 300 } });
  await page.keyboard.type(line, { delay: 8 });
  await page.keyboard.press('Enter');
}

test('an RDP desktop follows the window size on the same stream', async ({ page }) => {
  const session = await openRdp(page);
  for (const [width, height] of [[1100, 700], [1400, 904], [1280, 800]] as const) {
    await page.setViewportSize({ width, height });
    await eventually(`the picture is ${width} x ${height}`, async () => (await pictureSize(page)) === `${width} x ${height}`);
    await waitForDesktop(page);
  }
  expect(await bed.auditEntries(`action=open_stream&session_id=${session}`), 'no second stream was opened').toHaveLength(1);
  await waitForShell(page, bed.home);
  await sendCharacters(page);
  await typeLine(page, 'xrandr > size.txt');
  expect(await fileOnHost(join(bed.home, 'size.txt'))).toContain('current 1280 x 800');
  await screenshot(page, 'rdp-follows');
});

test('characters arrive unchanged, whatever keys they are on here', async ({ page }) => {
  await openRdp(page);
  await sendCharacters(page);
  await startCat(page, bed.home, 'text.txt');
  // With Shift and AltGr held where the desktop's own layout needs none, or others.
  await pressKeys(page, [['KeyA', 'z'], ['KeyB', 'ü'], ['+KeyC', 'ß'], ['KeyD', 'Ö'], ['+Digit2', '@'], ['^KeyF', '€'], ['+BracketLeft', '{'], ['KeyH', 'y']]);
  await page.keyboard.press('Enter');
  await page.keyboard.press('Control+d');
  expect(await fileOnHost(join(bed.home, 'text.txt'))).toBe('züßÖ@€{y\n');
});

/** A desktop without a layout of its own, in a browser of that language. */
async function openForeign(page: Page, locale: string): Promise<{ page: Page; close: () => Promise<void> }> {
  const context = await page.context().browser()!.newContext({ storageState: await page.context().storageState(), locale, permissions: ['clipboard-read', 'clipboard-write'] });
  await dismissHint(context);
  const foreign = await context.newPage();
  await launch(foreign, bed.testbed, 'ws-any');
  await waitForDesktop(foreign);
  await waitForShell(foreign, bed.home);
  return { page: foreign, close: () => context.close() };
}

/** What a terminal on the desktop gets from `act`. */
async function typedInto(page: Page, file: string, act: () => Promise<void>): Promise<string> {
  await startCat(page, bed.home, file);
  await act();
  await page.keyboard.press('Enter');
  await page.keyboard.press('Control+d');
  return fileOnHost(join(bed.home, file));
}

for (const [locale, [text, strokes]] of Object.entries({ 'de-DE': LAYOUTS.German!, 'fr-FR': LAYOUTS.French!, 'ja-JP': JAPANESE })) {
  test(`a ${locale} keyboard types its characters on an RDP desktop without a layout`, async ({ page }) => {
    const { page: foreign, close } = await openForeign(page, locale);
    expect(await typedInto(foreign, `${locale}.txt`, () => pressKeys(foreign, strokes))).toBe(`${text}\n`);
    await close();
  });
}

test('characters arrive whole when keys overlap, under Caps Lock, and composed', async ({ page }) => {
  const { page: german, close } = await openForeign(page, 'de-DE');
  const keys = await german.context().newCDPSession(german);
  const key = (type: 'keyDown' | 'keyUp', code: string, key: string, modifiers = 0) => keys.send('Input.dispatchKeyEvent', { type, code, key, modifiers, ...(type === 'keyDown' && key.length === 1 ? { text: key } : {}) });
  const text = await typedInto(german, 'overlap.txt', async () => {
    // The next key goes down before this one is up.
    await key('keyDown', 'ShiftLeft', 'Shift', 8);
    await key('keyDown', 'Minus', '?', 8);
    await key('keyUp', 'ShiftLeft', 'Shift');
    await key('keyDown', 'KeyE', 'e');
    await key('keyUp', 'Minus', 'ß');
    await key('keyUp', 'KeyE', 'e');
    await key('keyDown', 'CapsLock', 'CapsLock');
    await key('keyUp', 'CapsLock', 'CapsLock');
    await key('keyDown', 'KeyE', 'E');
    await key('keyUp', 'KeyE', 'E');
    await keys.send('Input.imeSetComposition', { text: '^', selectionStart: 1, selectionEnd: 1 });
    await keys.send('Input.insertText', { text: 'ê' });
  });
  expect(text).toBe('?eEê\n');
  await close();
});

test('a character that the layout does not have is named', async ({ page }) => {
  const { page: german, close } = await openForeign(page, 'de-DE');
  const text = await typedInto(german, 'lost.txt', async () => {
    await german.keyboard.insertText('aяb');
    await expect(german.getByTestId('flash')).toContainText('does not have: я');
  });
  expect(text).toBe('ab\n');
  await close();
});

test('a user\'s own credential is asked for once, kept, and forgotten on request', async ({ page }) => {
  await launch(page, bed.testbed, 'ws-own');
  const form = page.getByTestId('credential-form');
  await expect(form).toHaveAttribute('data-source', 'user', { timeout: 60_000 });
  await page.getByTestId('credential-username').fill(NLA.username);
  await page.getByTestId('credential-password').fill(NLA.password);
  await page.getByTestId('credential-submit').click();
  await waitForPicture(page);
  await bed.endSessions();

  await openNla(page, 'ws-own');
  await bed.endSessions();

  await page.goto(`${bed.testbed.url}/account`);
  await page.getByTestId('credential-forget').click();
  await page.getByTestId('confirm-ok').click();
  await expect(page.getByTestId('account-credentials')).toBeHidden();
  await launch(page, bed.testbed, 'ws-own');
  await expect(form).toHaveAttribute('data-refused', 'false', { timeout: 60_000 });
  for (const entry of await bed.auditEntries('')) expect(JSON.stringify(entry)).not.toContain(NLA.password);
});

test('Ctrl+Alt+Del and the Windows key are sent from the toolbar', async ({ page }) => {
  await openNla(page);
  events.reset();
  const box = (await page.locator(SCREEN).boundingBox())!;
  const scale = box.width / 1024;
  const click = () => page.mouse.click(box.x + (WINDOW.x + 200) * scale, box.y + (WINDOW.y + 150) * scale);
  await events.expectEventsOf('a click', click, /ButtonPress .* button 1,/);
  await page.getByTestId('toolbar-handle').click();
  await page.getByTestId('toolbar-keys').click();
  await page.getByTestId('key-ctrl-alt-del').click();
  await events.expectEvents('Ctrl Alt Del', /KeyPress [^\n]* state 0xc, keycode \d+ \(keysym 0xffff, Delete\)/);
  await page.getByTestId('key-super').click();
  await events.expectEvents('the Windows key, pressed and released', /KeyPress [^\n]*Super_L[^]*KeyRelease [^\n]*Super_L/);
});

test.describe('on a phone', () => {
  /** A touch screen that shows the desktop, with the touches in it. */
  async function openPhone(page: Page) {
    const context = await page.context().browser()!.newContext({ storageState: await page.context().storageState(), viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
    await dismissHint(context);
    const phone = await context.newPage();
    await openNla(phone);
    const cdp = await context.newCDPSession(phone);
    const touch = async (type: 'touchStart' | 'touchMove' | 'touchEnd', ...points: [number, number][]) => {
      // While the page reconnects, something else is under the finger, such as the link back to the workspaces.
      if (type === 'touchStart' && points.length === 1) await expect(phone.getByTestId('viewer-state')).toHaveAttribute('data-state', 'connected', { timeout: 30_000 });
      await cdp.send('Input.dispatchTouchEvent', { type, touchPoints: points.map(([x, y], id) => ({ x, y, id })) });
    };
    /** Fingers put down one after the other, moved along, and lifted. */
    const gesture = async (first: [number, number][], ...then: [number, number][][]) => {
      for (let n = 1; n <= first.length; n += 1) await touch('touchStart', ...first.slice(0, n));
      for (const points of then) await touch('touchMove', ...points);
      await touch('touchEnd');
    };
    const box = (await phone.locator(SCREEN).boundingBox())!;
    const scale = box.width / 1024;
    const [x, y] = [box.x + (WINDOW.x + 200) * scale, box.y + (WINDOW.y + 170) * scale];
    const pair = (apart: number, down = 0): [number, number][] => [[x - apart, y + down], [x + apart, y + down]];
    return { context, phone, touch, gesture, x, y, pair };
  }

  test('a tap is a click', async ({ page }) => {
    const { context, gesture, x, y } = await openPhone(page);
    await events.expectEventsOf('a tap is a click', () => gesture([[x, y]]), /ButtonPress [^\n]* button 1,[^]*ButtonRelease [^\n]* button 1,/);
    await context.close();
  });

  test('holding is the right button', async ({ page }) => {
    const { context, touch, x, y } = await openPhone(page);
    let down = false;
    const hold = async () => {
      if (down) await touch('touchEnd');
      down = true;
      await touch('touchStart', [x, y]);
    };
    await events.expectEventsOf('holding is the right button', hold, /ButtonPress [^\n]* button 3,[^]*ButtonRelease [^\n]* button 3,/);
    await touch('touchEnd');
    await context.close();
  });

  test('one finger drags', async ({ page }) => {
    const { context, gesture, x, y } = await openPhone(page);
    const along = [-30, 0, 30, 45].map((dx): [number, number][] => [[x + dx, y]]);
    const dragged = /ButtonPress [^\n]* button 1,[^]*MotionNotify [^\n]* state 0x100,[^]*ButtonRelease [^\n]* button 1,/;
    await events.expectEventsOf('one finger drags', () => gesture([[x - 50, y]], ...along), dragged);
    await context.close();
  });

  test('two fingers scroll', async ({ page }) => {
    const { context, gesture, pair } = await openPhone(page);
    await events.expectEventsOf('two fingers scroll', () => gesture(pair(25, -40), pair(25, -20), pair(25), pair(25, 20), pair(25, 40)), /ButtonPress [^\n]* button [45],/);
    await context.close();
  });

  test('two fingers zoom in and out', async ({ page }) => {
    const { context, phone, gesture, pair } = await openPhone(page);
    const width = async () => Math.round((await phone.locator(SCREEN).boundingBox())!.width);
    const pinchUntil = (to: number, ...strokes: Parameters<typeof gesture>) =>
      eventually(`the picture is ${to} wide`, async () => {
        await gesture(...strokes);
        return eventually('', async () => (await width()) === to, 5_000).catch(() => false as const);
      }, 120_000);
    expect(await width(), 'fitted').toBe(390);
    await pinchUntil(1024, pair(15), pair(25), pair(40), pair(60));
    await screenshot(phone, 'rdp-phone');
    const together = [100, 92, 84, 76, 68, 60].map((apart): [number, number][] => [[200 - apart, 400], [200 + apart, 400]]);
    await pinchUntil(390, ...(together as Parameters<typeof gesture>));
    await context.close();
  });
});

test('in a read-only workspace, input from the page and forged input have no effect, and forged input is audited', async ({ page }) => {
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
  const session = await openNla(page, 'ws-locked');
  events.reset();
  const box = (await page.locator(SCREEN).boundingBox())!;
  await page.mouse.click(box.x + box.width * 0.75, box.y + box.height * 0.7);
  await page.keyboard.type('abc');
  // Fast-path input (MS-RDPBCGR 2.2.8.1.2): the key A, down and up; the left button at the window's middle.
  await page.evaluate(([x, y]) => {
    const socket = (window as unknown as { sockets: WebSocket[] }).sockets.at(-1)!;
    socket.send(new Uint8Array([0x08, 6, 0x00, 0x1e, 0x01, 0x1e]));
    for (const flags of [0x9000, 0x1000]) socket.send(new Uint8Array([0x04, 9, 0x20, flags & 255, flags >> 8, x & 255, x >> 8, y & 255, y >> 8]));
  }, [WINDOW.x + 200, WINDOW.y + 150] as const);
  const entry = await eventually('the refusal is audited', async () => (await bed.auditEntries(`action=transfer_refused&session_id=${session}`)).find((entry) => entry.details.channel === 'input'));
  expect(entry).toMatchObject({ outcome: 'denied', details: { direction: 'in' } });
  // The stream is open, and input sent before the refusal would have arrived by now.
  await expect(page.getByTestId('viewer-state')).toHaveAttribute('data-state', 'connected');
  expect(events.events).toBe('');
});
