// @vitest-environment jsdom
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { ClipboardPanel, LIMIT, sizeOf } from '../src/viewer/ui/clipboard';
import type { PasteResult } from '../src/viewer/core/protocol';

type Reading = PermissionState | 'unsupported';
let panel: ClipboardPanel;
let sent: string[];
let told: string[];
let local: string;
let writes: boolean;
let limit: number | undefined;
let result: () => Promise<PasteResult>;

const settled = () => new Promise((done) => setTimeout(done));
const box = () => panel.element.querySelector<HTMLInputElement>('[data-testid=clipboard-auto]')!;
const note = () => panel.element.querySelector('[data-testid=clipboard-note]')!.textContent;
const hint = () => panel.element.querySelector<HTMLElement>('[data-testid=clipboard-auto-hint]')!;
const text = (words: string, types = ['text/plain']) => ({ getData: () => words, types }) as unknown as DataTransfer;

async function open(reading: Reading): Promise<void> {
  [sent, told, writes] = [[], [], true];
  result = async () => ({ replaced: '', offered: false });
  localStorage.clear();
  vi.spyOn(document, 'hasFocus').mockReturnValue(true);
  const query = async () => {
    if (reading === 'unsupported') throw new TypeError('no such permission');
    return Object.assign(new EventTarget(), { state: reading });
  };
  Object.defineProperty(navigator, 'permissions', { value: { query }, configurable: true });
  const clipboard = {
    readText: async () => {
      if (reading !== 'granted') throw new Error('NotAllowedError');
      return local;
    },
    writeText: async (words: string) => {
      if (!writes) throw new Error('NotAllowedError');
      local = words;
    },
  };
  Object.defineProperty(navigator, 'clipboard', { value: clipboard, configurable: true });
  document.body.replaceChildren();
  limit = undefined;
  panel = new ClipboardPanel({ limit: () => limit, send: (words) => (sent.push(words), result()), tell: (words) => told.push(words) });
  document.body.append(panel.element);
  panel.allow(true, true);
  await settled();
}

beforeEach(() => {
  local = '';
});

describe('the box of the clipboard', () => {
  it('is ticked only where the browser lets the page read, and says what works otherwise', async () => {
    await open('granted');
    expect([box().checked, hint().hidden]).toEqual([true, true]);
    await open('prompt');
    expect([box().checked, box().disabled, hint().hidden]).toEqual([false, false, false]);
    expect(hint().textContent).toContain('tick to be asked');
    await open('denied');
    expect([box().checked, box().disabled, hint().hidden]).toEqual([false, true, false]);
    await open('unsupported');
    expect([box().checked, hint().hidden]).toEqual([false, false]);
  });

  it('is ticked without reading where text goes out only', async () => {
    await open('prompt');
    panel.allow(false, true);
    expect([box().checked, hint().hidden]).toEqual([true, true]);
  });

  it('is not ticked after the browser said no', async () => {
    await open('prompt');
    box().click();
    await settled();
    expect(box().checked).toBe(false);
    expect(note()).toContain('does not allow');
  });
});

describe('text into the desktop', () => {
  it('of any script, up to 10 MiB of UTF-8', async () => {
    await open('prompt');
    const whole = '日本'.repeat(LIMIT / 6);
    for (const words of ['naïve 日本語 😀', 'x'.repeat(LIMIT), whole]) {
      expect(await panel.paste(text(words))).toBe(true);
      expect(sent.at(-1)).toBe(words);
    }
    expect(told).toEqual([]);
    expect(sizeOf(whole)).toBeLessThanOrEqual(LIMIT);
  });

  it('that is longer is refused in words, and nothing older is left to be pasted', async () => {
    await open('prompt');
    await panel.paste(text('before'));
    for (const words of ['x'.repeat(LIMIT + 1), '日'.repeat(LIMIT / 3 + 1)]) {
      expect(await panel.paste(text(words))).toBe(false);
      expect(sent.at(-1)).toBe('');
      expect(told.at(-1)).toContain('too long');
    }
    // The text before is sent again.
    await panel.paste(text('before'));
    expect(sent.at(-1)).toBe('before');
  });

  it('that is longer than this desktop takes is refused in words', async () => {
    await open('prompt');
    limit = 8;
    expect(await panel.paste(text('12345678'))).toBe(true);
    expect(await panel.paste(text('123456789'))).toBe(false);
    expect([sent.at(-1), told[0]?.includes('at most 8 B')]).toEqual(['', true]);
  });

  it('that is a picture is refused in words', async () => {
    await open('prompt');
    expect(await panel.paste(text('', ['Files']))).toBe(false);
    expect(sent).toEqual(['']);
    expect(told[0]).toContain('Only text');
    expect(await panel.paste(text('', []))).toBe(true);
  });

  it('that the desktop could not take whole is named', async () => {
    await open('prompt');
    result = async () => ({ replaced: '日 本', offered: false });
    expect(await panel.paste(text('naïve 日本'))).toBe(true);
    expect(told[0]).toContain('日 本');
    result = async () => Promise.reject(new Error('closed'));
    expect(await panel.paste(text('other'))).toBe(false);
    expect(told[1]).toContain('did not take');
  });

  it('is not called sent before the desktop has it', async () => {
    await open('prompt');
    result = async () => ({ replaced: '', offered: true });
    await panel.paste(text('offered'));
    expect(note()).not.toContain('Sent');
    let done = (_: PasteResult) => {};
    result = () => new Promise((resolve) => (done = resolve));
    const pasting = panel.paste(text('slow'));
    expect(note()).not.toContain('Sent');
    done({ replaced: '', offered: false });
    await pasting;
    expect(note()).toContain('Sent');
  });

  it('that came from there is not sent back', async () => {
    await open('prompt');
    await panel.received('from there');
    expect(local).toBe('from there');
    expect(await panel.paste(text('from there'))).toBe(true);
    expect(sent).toEqual([]);
  });
});

describe('text out of the desktop', () => {
  it('of up to 10 MiB is taken over, without a permission to read', async () => {
    await open('prompt');
    const long = 'ü'.repeat(LIMIT / 2);
    await panel.received(long);
    expect(local).toBe(long);
    const field = panel.element.querySelector('textarea')!;
    expect([field.value, field.placeholder.includes('too long to show')]).toEqual(['', true]);
    panel.element.querySelector<HTMLElement>('[data-testid=clipboard-copy]')!.click();
    await settled();
    expect(local, 'the whole of it').toBe(long);
  });

  it('that is longer is refused in words', async () => {
    await open('prompt');
    local = 'mine';
    await panel.received('x'.repeat(LIMIT + 1));
    expect([local, told[0]?.includes('copied too much'), note()?.includes('copied too much')]).toEqual(['mine', true, true]);
  });

  it('that was announced and does not come is told', async () => {
    await open('prompt');
    panel.lost();
    expect(told[0]).toContain('did not arrive');
  });

  it('waits for a click where the browser wants one, and older text of this computer is not pasted over it', async () => {
    await open('prompt');
    await panel.paste(text('old'));
    [local, writes] = ['old', false];
    await panel.received('new');
    expect(note()).toContain('next click');
    expect(await panel.paste(text('old'))).toBe(true);
    expect(sent).toEqual(['old']);
    writes = true;
    window.dispatchEvent(new Event('pointerup'));
    await settled();
    expect(local).toBe('new');
  });
});
