// The clipboard of a desktop, both ways: without a permission of the browser, of any script and size, and what is said when it cannot be transferred. Effects are read on the host.
import { type BrowserContext, type Page, expect } from '@playwright/test';
import { join } from 'node:path';
import { dismissHint, launch, testsOn } from './helpers.ts';
import { SCREEN, fileOnHost, waitForDesktop, waitForPicture, waitForShell } from './screen.ts';
import { eventually } from './testbed.ts';
import { startVncDesktop } from './upstreams.ts';

const MIB = 1024 * 1024;
const WORDS = 'naïve 日本語 שלום 😀';

const { test, bed } = testsOn({
  services: ['tiger', 'latin'],
  async setUp(bed) {
    // LibVNCServer has no extended clipboard: its text is ISO 8859-1.
    const display = await startVncDesktop(bed.testbed, bed.ports.tiger);
    bed.testbed.spawn('x11vnc', 'x11vnc', ['-display', display, '-rfbport', String(bed.ports.latin), '-localhost', '-nopw', '-forever', '-shared', '-noxdamage', '-quiet']);
    await bed.api('POST', '/api/workspaces', { id: 'ws-latin', name: 'Older server', type: 'vnc', requires_mfa: false, target: bed.service('latin') }, 201);
    await bed.api('POST', '/api/workspaces', { id: 'ws-rdp', name: 'Windows-style', type: 'rdp', requires_mfa: false }, 201);
  },
});

/** A browser that permits nothing, with a desktop's terminal. */
async function openTerminal(page: Page, workspace: string, permissions: string[] = []): Promise<{ page: Page; context: BrowserContext }> {
  const context = await page.context().browser()!.newContext({ storageState: await page.context().storageState(), permissions });
  await dismissHint(context);
  const opened = await context.newPage();
  await launch(opened, bed.testbed, workspace);
  await waitForDesktop(opened);
  await waitForShell(opened, bed.home);
  return { page: opened, context };
}

/** Copies text on this computer, as another program would: by a page that may. */
async function copyHere(page: Page, text: string, times = 1): Promise<void> {
  if (!page.url().startsWith(bed.testbed.url)) await page.goto(bed.testbed.url);
  await page.evaluate(([text, times]) => navigator.clipboard.writeText((text as string).repeat(times as number)), [text, times]);
}

/** Pastes into the terminal by keys, and clears its line. */
async function paste(page: Page): Promise<void> {
  await page.locator(SCREEN).click({ position: { x: 300, y: 300 } });
  await page.keyboard.press('Control+v');
  // The shell takes the next key literally, and then drops its line.
  await page.keyboard.press('x');
  await page.keyboard.press('Control+u');
}

let files = 0;
/** What a command prints in the terminal. */
async function output(page: Page, command: string): Promise<string> {
  const file = `clipboard-${(files += 1)}.txt`;
  await page.locator(SCREEN).click({ position: { x: 300, y: 300 } });
  await page.keyboard.type(`(${command}; echo .) > ${file}.part; mv ${file}.part ${file}`, { delay: 8 });
  await page.keyboard.press('Enter');
  return (await fileOnHost(join(bed.home, file))).replace(/\.\n$/, '');
}

for (const workspace of ['ws-linux-desktop', 'ws-rdp']) {
  test(`text is pasted into ${workspace} without any permission, whatever its script`, async ({ page }) => {
    const { page: desktop, context } = await openTerminal(page, workspace);
    await copyHere(page, WORDS);
    await paste(desktop);
    expect(await output(desktop, 'xclip -selection clipboard -o')).toBe(WORDS);
    await context.close();
  });

  test(`2 MiB of text go into ${workspace} and out of it`, async ({ page }) => {
    const { page: desktop, context } = await openTerminal(page, workspace, ['clipboard-read', 'clipboard-write']);
    // Three bytes a character.
    await copyHere(page, '日本', (2 * MIB) / 6);
    await paste(desktop);
    expect(Number(await output(desktop, 'xclip -selection clipboard -o | tr -d "\\0" | wc -m'))).toBe(2 * Math.floor((2 * MIB) / 6));
    await output(desktop, 'yes abcdefg | head -c 2097152 | xclip -selection clipboard -i');
    await eventually('the text is on the browser\'s clipboard', async () => (await desktop.evaluate(() => navigator.clipboard.readText())).length >= 2 * MIB - 1);
    await context.close();
  });

  test(`text that is too long for ${workspace} is refused in words, and nothing older is pasted`, async ({ page }) => {
    const { page: desktop, context } = await openTerminal(page, workspace);
    await copyHere(page, 'older');
    await paste(desktop);
    expect(await output(desktop, 'xclip -selection clipboard -o')).toBe('older');
    await copyHere(page, 'x', 11 * MIB);
    await paste(desktop);
    await expect(desktop.getByTestId('flash')).toContainText('too long');
    expect(await output(desktop, 'xclip -selection clipboard -o 2>/dev/null')).toBe('');
    await context.close();
  });
}

test('10 MiB of text go into a Linux desktop and out of it', async ({ page }) => {
  const { page: desktop, context } = await openTerminal(page, 'ws-linux-desktop', ['clipboard-read', 'clipboard-write']);
  await copyHere(page, '0123456789abcdef', (10 * MIB) / 16);
  await paste(desktop);
  expect(Number(await output(desktop, 'xclip -selection clipboard -o | wc -c'))).toBe(10 * MIB);
  await output(desktop, 'yes ABCDEFG | head -c 10485760 | xclip -selection clipboard -i');
  await eventually('the text is on the browser\'s clipboard', async () => (await desktop.evaluate(() => navigator.clipboard.readText())).length === 10 * MIB);
  await context.close();
});

test('a server that takes Western European text only gets that, and the page names what was replaced', async ({ page }) => {
  const context = await page.context().browser()!.newContext({ storageState: await page.context().storageState() });
  await dismissHint(context);
  const desktop = await context.newPage();
  await launch(desktop, bed.testbed, 'ws-latin');
  await waitForPicture(desktop);
  await copyHere(page, 'naïve 日本語');
  await paste(desktop);
  await expect(desktop.getByTestId('flash')).toContainText('question marks: 日 本 語');
  await copyHere(page, 'naïve');
  await paste(desktop);
  await desktop.getByTestId('toolbar-handle').hover();
  await desktop.getByTestId('toolbar-clipboard').click();
  await expect(desktop.getByTestId('clipboard-note')).toHaveText('Sent to the desktop. Paste it there.');
  await context.close();
});

test('the box of the clipboard is ticked only where the browser lets the page read', async ({ page }) => {
  const { page: desktop, context } = await openTerminal(page, 'ws-linux-desktop');
  await desktop.getByTestId('toolbar-handle').hover();
  await desktop.getByTestId('toolbar-clipboard').click();
  await expect(desktop.getByTestId('clipboard-auto')).not.toBeChecked();
  await expect(desktop.getByTestId('clipboard-auto-hint')).toBeVisible();
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: bed.testbed.url });
  await expect(desktop.getByTestId('clipboard-auto')).toBeChecked();
  await expect(desktop.getByTestId('clipboard-auto-hint')).toBeHidden();
  await context.close();
});
