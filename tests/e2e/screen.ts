// The remote screen as a person has it: looked at by its pixels, worked with by mouse and keys.
import { type Page, expect } from '@playwright/test';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from './testbed.ts';

export const SCREEN = '[data-testid=viewer-screen]';

/** How many different colours a coarse grid over the screen has; a screen that was not painted has one. */
export async function countColours(page: Page): Promise<number> {
  return page.evaluate((screen) => {
    const canvas = document.querySelector<HTMLCanvasElement>(screen);
    if (!canvas || canvas.width < 100) return 0;
    const { data } = canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height);
    const seen = new Set<number>();
    for (let i = 0; i < data.length; i += 4 * 97) seen.add((data[i]! << 16) | (data[i + 1]! << 8) | data[i + 2]!);
    return seen.size;
  }, SCREEN);
}

/** Waits until the desktop is painted: background gradient, panel and a terminal. */
export async function waitForDesktop(page: Page): Promise<void> {
  await expect(page.getByTestId('viewer-state')).toHaveAttribute('data-state', 'connected');
  await eventually('the desktop is painted', async () => (await countColours(page)) > 20 || undefined);
}

/** Waits until a desktop of few colours is painted: its terminal's black and white, and its background. Long enough for a second attempt. */
export async function waitForPicture(page: Page): Promise<void> {
  await expect(page.getByTestId('viewer-state')).toHaveAttribute('data-state', 'connected', { timeout: 60_000 });
  await eventually('the desktop is painted', async () => (await countColours(page)) > 2 || undefined, 20_000);
}

const SHIFTED_CODES = 'Backquote Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9 Digit0 Minus Equal BracketLeft BracketRight Backslash Semicolon Quote Comma Period Slash'.split(' ');
/** The key that types a character with Shift; by its name, so that the event has that character. */
const SHIFTED: Record<string, string> = Object.fromEntries([...'~!@#$%^&*()_+{}|:"<>?'].map((c, i) => [c, SHIFTED_CODES[i]!]));

/** Types a command by keys rather than by characters, as RDP takes it: a US keyboard, with Shift where it is needed. */
export async function typeKeys(page: Page, command: string, at = { x: 300, y: 300 }): Promise<void> {
  await page.locator(SCREEN).click({ position: at });
  for (const character of command) {
    const shifted = SHIFTED[character] ?? (/[A-Z]/.test(character) ? `Key${character}` : null);
    await page.keyboard.press(shifted ? `Shift+${shifted}` : character === ' ' ? 'Space' : character);
  }
  await page.keyboard.press('Enter');
}

/** Types a command into the desktop's terminal. */
export async function type(page: Page, command: string): Promise<void> {
  await page.locator(SCREEN).click({ position: { x: 200, y: 480 } });
  await page.keyboard.type(command, { delay: 8 });
  await page.keyboard.press('Enter');
}

/** Starts `cat` into a file of the home folder, and waits until it reads: keys that arrive before, while the shell has the terminal, are not in its first line. */
export async function startCat(page: Page, home: string, file: string): Promise<void> {
  await type(page, `cat > ${file}`);
  await eventually('cat reads', () => existsSync(join(home, file)));
}

/** The text of a file on the host, once it is there and whole. */
export async function fileOnHost(path: string): Promise<string> {
  return eventually(`${path} appears on the host`, () => (existsSync(path) && readFileSync(path, 'utf8')) || undefined);
}

/** A way to type a command: [`type`] by characters, [`typeKeys`] by keys. */
type Typing = (page: Page, command: string) => Promise<void>;

/** Types a command until the file it writes is there; a desktop that has just appeared may not take input yet. */
export async function typeUntilFile(page: Page, command: string, path: string, { by = type, within }: { by?: Typing; within?: number } = {}): Promise<string> {
  const written = () => (existsSync(path) && readFileSync(path, 'utf8')) || undefined;
  return eventually(`${path} appears on the host`, async () => {
    await by(page, command);
    return eventually('the file is there', written, 10_000).catch(() => undefined);
  }, within);
}

/** The same by keys, as RDP takes them. */
export const typeKeysUntilFile = (page: Page, command: string, path: string, within?: number): Promise<string> => typeUntilFile(page, command, path, { by: typeKeys, within });

/** Where the terminal shows its first lines. */
const TEXT = { x: 80, y: 92, width: 600, height: 120 };

/** The brightness of every pixel there. */
export async function terminalText(page: Page): Promise<number[]> {
  return page.evaluate(
    ([screen, at]) => {
      const canvas = document.querySelector<HTMLCanvasElement>(screen)!;
      const { data } = canvas.getContext('2d')!.getImageData(at.x, at.y, at.width, at.height);
      const bright = [];
      for (let i = 0; i < data.length; i += 4) bright.push(Math.round((data[i]! + data[i + 1]! + data[i + 2]!) / 3));
      return bright;
    },
    [SCREEN, TEXT] as const,
  );
}

/** What the terminal shows once it shows a line of text and only the cursor, which blinks, has changed for some looks in a row. */
export async function settledText(page: Page): Promise<number[]> {
  let [last, same]: [number[], number] = [[], 0];
  return eventually('the terminal shows the text and is quiet', async () => {
    const text = await terminalText(page);
    same = text.filter(isLetter).length > 200 && letterDifference(text, last) < 0.2 ? same + 1 : 0;
    last = text;
    return same >= 10 && text;
  });
}

/** Waits until the terminal is there and its shell has prompted: keys typed before that go nowhere. */
export async function waitForPrompt(page: Page): Promise<void> {
  await eventually('the terminal prompts', async () => {
    const text = await terminalText(page);
    const dark = text.filter((brightness) => brightness < 50).length;
    return dark > text.length * 0.8 && text.filter(isLetter).length > 100;
  });
}

let shells = 0;

/**
 * Waits until the terminal's shell runs what is typed. Before the window manager has given the terminal the focus, and while the server changes the
 * size of the desktop, keys go nowhere. The command has no letter or sign that is elsewhere on a German keyboard.
 */
export async function waitForShell(page: Page, home: string): Promise<void> {
  await waitForPrompt(page);
  const file = `shell${(shells += 1)}`;
  await eventually('the shell runs what is typed', async () => {
    await type(page, `touch ${file}`);
    return eventually('the file is there', () => existsSync(join(home, file)), 5_000).catch(() => undefined);
  });
}

let clipboardFiles = 0;

/** The desktop's clipboard, as a program there reads it. */
export async function desktopClipboard(page: Page, home: string, by: Typing = type): Promise<string> {
  const file = `clipboard-${(clipboardFiles += 1)}.txt`;
  await by(page, `xclip -selection clipboard -o > ${file}; echo . >> ${file}`);
  const text = await eventually('the desktop’s clipboard is in the file', async () => {
    const text = await fileOnHost(join(home, file));
    return text.endsWith('.\n') && text;
  });
  return text.slice(0, -2);
}

const isLetter = (brightness: number) => brightness > 90;

/** How many pixels are letters in one picture and background in the other, as a share of all letters. The desktop's pictures are lossy. */
export function letterDifference(a: number[], b: number[]): number {
  const letters = a.filter(isLetter).length;
  const odd = a.filter((brightness, i) => isLetter(brightness) !== isLetter(b[i] ?? 0)).length;
  return letters === 0 ? 1 : odd / letters;
}
