// The keyboard of a Linux desktop: no key stays down after the focus changes, panels give the focus back, and what is composed arrives. Effects are read on the host.
import { type Page, expect } from '@playwright/test';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { launch, testsOn } from './helpers.ts';
import { SCREEN, fileOnHost, type, waitForDesktop, waitForShell } from './screen.ts';
import { eventually } from './testbed.ts';

const { test, bed } = testsOn({ role: 'member' });

async function openTerminal(page: Page): Promise<void> {
  await launch(page, bed.testbed, 'ws-linux-desktop');
  await waitForDesktop(page);
  await waitForShell(page, bed.home);
}

/** What the terminal gets from `act`, control characters made visible. */
async function received(page: Page, file: string, act: () => Promise<void>, program = 'cat -v'): Promise<string> {
  await type(page, `${program} > ${file}.part; mv ${file}.part ${file}`);
  await eventually('the program reads', () => existsSync(join(bed.home, `${file}.part`)));
  await act();
  await page.keyboard.press('Enter');
  await page.keyboard.press('Control+d');
  return fileOnHost(join(bed.home, file));
}

const SHORTCUT = ['Control', 'Alt', 'Shift'];

/** Presses the shortcut of the toolbar, and lets the keys go one after the other. */
async function pressShortcut(page: Page): Promise<void> {
  for (const key of SHORTCUT) await page.keyboard.down(key);
  await page.keyboard.down('p');
  await expect(page.getByTestId('toolbar')).toHaveAttribute('data-open', 'true');
  for (const key of ['p', ...SHORTCUT]) await page.keyboard.up(key);
}

test('no key stays down after the shortcut of the toolbar', async ({ page }) => {
  await openTerminal(page);
  const text = await received(page, 'shortcut.txt', async () => {
    await pressShortcut(page);
    await page.keyboard.press('Escape');
    await page.keyboard.type('abc def');
  });
  expect(text).toBe('abc def\n');
});

test('no key stays down when the focus leaves the desktop by the pointer', async ({ page }) => {
  await openTerminal(page);
  const text = await received(page, 'panel.txt', async () => {
    await page.keyboard.down('Control');
    await page.getByTestId('toolbar-handle').hover();
    await page.getByTestId('toolbar-clipboard').click();
    await expect(page.getByTestId('clipboard-text')).toBeFocused();
    await page.keyboard.up('Control');
    await page.locator(SCREEN).click({ position: { x: 200, y: 480 } });
    await page.keyboard.type('abc def');
  });
  expect(text).toBe('abc def\n');
});

test('Esc in a panel leads to its button, a second one to the desktop', async ({ page }) => {
  await openTerminal(page);
  const text = await received(page, 'escape.txt', async () => {
    await pressShortcut(page);
    await expect(page.getByTestId('toolbar-clipboard')).toBeFocused();
    await page.keyboard.press('Enter');
    await expect(page.getByTestId('clipboard-text')).toBeFocused();
    await page.keyboard.press('Escape');
    await expect(page.getByTestId('clipboard-panel')).toBeHidden();
    await expect(page.getByTestId('toolbar-clipboard')).toBeFocused();
    await page.keyboard.press('Escape');
    await expect(page.getByTestId('toolbar')).toHaveAttribute('data-open', 'false');
    await page.keyboard.type('found');
  });
  expect(text).toBe('found\n');
});

const CYRILLIC = 'абвгдежзийклмнопрстуфхцчшщъыьэюяё';
/** Of each script: more than the server has free keycodes for at once. */
const SCRIPTS: readonly string[] = [CYRILLIC, CYRILLIC.toUpperCase(), 'äöüßÄÖÜ€éñ', 'αβγδεζηθικλμνξοπρστυφχψω', Array.from({ length: 90 }, (_, i) => String.fromCodePoint(0x4e00 + i)).join(''), 'שלום مرحبا', Array.from({ length: 90 }, (_, i) => String.fromCodePoint(0x5000 + i)).join('')];

test('text of every script arrives, more than the server has free keycodes for', async ({ page }) => {
  await openTerminal(page);
  const text = await received(page, 'scripts.txt', async () => {
    for (const [i, script] of SCRIPTS.entries()) {
      if (i > 0) await page.keyboard.press('Enter');
      await page.keyboard.insertText(script);
    }
  }, 'cat');
  expect(text).toBe(`${SCRIPTS.join('\n')}\n`);
});

test('the keys of a Russian keyboard arrive, then those of a German one', async ({ page }) => {
  await openTerminal(page);
  const keys = await page.context().newCDPSession(page);
  const text = await received(page, 'keys.txt', async () => {
    for (const key of `${CYRILLIC}${CYRILLIC.toUpperCase()}äöüß`)
      for (const type of ['keyDown', 'keyUp'] as const) await keys.send('Input.dispatchKeyEvent', { type, code: 'KeyA', key, ...(type === 'keyDown' ? { text: key } : {}) });
  }, 'cat');
  expect(text).toBe(`${CYRILLIC}${CYRILLIC.toUpperCase()}äöüß\n`);
});

test('what an input method composes arrives once, and nothing when it is cancelled', async ({ page }) => {
  await openTerminal(page);
  const keys = await page.context().newCDPSession(page);
  const composing = (text: string) => keys.send('Input.imeSetComposition', { text, selectionStart: text.length, selectionEnd: text.length });
  const text = await received(page, 'composed.txt', async () => {
    await composing('に');
    await composing('日本');
    await keys.send('Input.insertText', { text: '日本語' });
    await composing('か');
    await composing('');
    await keys.send('Input.dispatchKeyEvent', { type: 'keyDown', code: 'Backquote', key: 'Dead' });
    await composing('^');
    await keys.send('Input.insertText', { text: 'ê' });
    await page.keyboard.type('!');
  }, 'cat');
  expect(text).toBe('日本語ê!\n');
});
