// @vitest-environment jsdom
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KeyboardFocus } from '../src/viewer/core/keyboard';

let log: string[] = [];
let composes = true;
let takesText = false;
/** What the desktop does with pasted text. */
let give: (data: DataTransfer) => Promise<boolean> = async () => true;
let keys: KeyboardFocus;
let other: HTMLInputElement;

function setUp(mac = false): void {
  log = [];
  composes = true;
  other = document.createElement('input');
  const field = document.createElement('textarea');
  document.body.replaceChildren(field, other);
  const sink = {
    key: ({ key, code }: KeyboardEvent, down: boolean) => void log.push(`${down ? '+' : '-'}${code}${[...key].length === 1 ? `(${key})` : ''}`),
    releaseInput: () => void log.push('released'),
    composes: () => composes,
    sendText: (text: string) => void log.push(`"${text}"`),
  };
  // The window still reports to the fields of earlier tests.
  keys = new KeyboardFocus(field, { sink: () => (field.isConnected ? sink : null), pastes: () => takesText, paste: (data) => give(data), mac });
  keys.focus();
}

const send = (type: 'keydown' | 'keyup', code: string, key: string, more: KeyboardEventInit = {}) => {
  const event = new KeyboardEvent(type, { code, key, bubbles: true, cancelable: true, ...more });
  keys.field.dispatchEvent(event);
  return event.defaultPrevented;
};
const compose = (type: 'compositionstart' | 'compositionend', data: string) => keys.field.dispatchEvent(new CompositionEvent(type, { data }));
const input = (inputType: string, data: string | null, isComposing = false) => keys.field.dispatchEvent(new InputEvent('input', { inputType, data, isComposing }));

beforeEach(() => setUp());
afterEach(() => document.body.replaceChildren());

describe('keys that are down', () => {
  const hold = () => {
    send('keydown', 'ControlLeft', 'Control');
    send('keydown', 'KeyA', 'a', { ctrlKey: true });
    log = [];
  };
  const RELEASED = ['-ControlLeft', '-KeyA(a)', 'released'];

  it('are released when another element gets the focus', () => {
    hold();
    other.focus();
    expect(log).toEqual(RELEASED);
  });

  it('are released when the window loses the focus', () => {
    hold();
    window.dispatchEvent(new Event('blur'));
    expect(log).toEqual(RELEASED);
  });

  it('are released when the page is hidden or left', () => {
    hold();
    window.dispatchEvent(new Event('pagehide'));
    expect(log).toEqual(RELEASED);
    hold();
    Object.defineProperty(document, 'hidden', { value: true, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
    Reflect.deleteProperty(document, 'hidden');
    expect(log).toEqual(RELEASED);
  });

  it('are released once: a release that comes later means nothing', () => {
    hold();
    keys.release();
    log = [];
    send('keyup', 'KeyA', 'a');
    send('keyup', 'ControlLeft', 'Control');
    expect(log).toEqual([]);
  });

  it('are both released when one of two Shift keys goes up last', () => {
    send('keydown', 'ShiftLeft', 'Shift', { shiftKey: true });
    send('keydown', 'ShiftRight', 'Shift', { shiftKey: true });
    log = [];
    send('keyup', 'ShiftRight', 'Shift', { shiftKey: false });
    expect(log).toEqual(['-ShiftRight', '-ShiftLeft']);
  });

  it('are released at once under Meta on macOS, which reports no release', () => {
    setUp(true);
    send('keydown', 'MetaLeft', 'Meta', { metaKey: true });
    send('keydown', 'KeyC', 'c', { metaKey: true });
    expect(log).toEqual(['+MetaLeft', '+KeyC(c)', '-KeyC(c)']);
  });

  it('are released at once when a virtual keyboard names no key', () => {
    send('keydown', '', 'Enter');
    send('keydown', '', 'x');
    expect(log).toEqual(['+Enter', '-Enter', '"x"']);
  });
});

describe('composed text', () => {
  it('arrives when an input method ends, and its keys do not', () => {
    send('keydown', 'KeyN', 'Process', { keyCode: 229 } as KeyboardEventInit);
    compose('compositionstart', '');
    send('keydown', 'KeyI', 'i', { isComposing: true });
    input('insertCompositionText', 'に', true);
    compose('compositionend', '日本');
    input('insertCompositionText', '日本');
    send('keyup', 'KeyI', 'i');
    expect(log).toEqual(['"日本"']);
  });

  it('is nothing when it was cancelled', () => {
    compose('compositionstart', '');
    input('insertCompositionText', 'に', true);
    compose('compositionend', '');
    expect(log).toEqual([]);
  });

  it('arrives once after a dead key, in the ways browsers report it', () => {
    // macOS, Firefox: a composition.
    send('keydown', 'Backquote', 'Dead');
    compose('compositionstart', '');
    send('keydown', 'KeyE', 'ê', { isComposing: true });
    compose('compositionend', 'ê');
    input('insertCompositionText', 'ê');
    expect(log).toEqual(['"ê"']);
    // Windows: an input event; without a match it has both characters.
    log = [];
    send('keydown', 'Backquote', 'Dead');
    send('keyup', 'Backquote', 'Dead');
    expect(send('keydown', 'KeyX', 'x'), 'left to the browser').toBe(false);
    input('insertText', '^x');
    send('keyup', 'KeyX', 'x');
    expect(log).toEqual(['"^x"']);
    // What follows is a key again.
    log = [];
    expect(send('keydown', 'KeyX', 'x')).toBe(true);
    expect(log).toEqual(['+KeyX(x)']);
  });

  it('is capital after a dead key and Shift, and a key that types nothing ends the dead key', () => {
    send('keydown', 'Backquote', 'Dead');
    send('keydown', 'ShiftLeft', 'Shift', { shiftKey: true });
    expect(send('keydown', 'KeyE', 'Ê', { shiftKey: true })).toBe(false);
    input('insertText', 'Ê');
    expect(log).toEqual(['+ShiftLeft', '"Ê"']);
    send('keydown', 'Backquote', 'Dead');
    send('keydown', 'Backspace', 'Backspace');
    expect(send('keydown', 'KeyA', 'a')).toBe(true);
  });

  it('is composed by the desktop where positions are sent', () => {
    composes = false;
    expect(send('keydown', 'Backquote', 'Dead')).toBe(true);
    send('keydown', 'KeyE', 'ê');
    expect(log).toEqual(['+Backquote', '+KeyE(ê)']);
  });

  it('of an emoji panel or dictation arrives whole, and the field stays empty', () => {
    keys.field.value = '👍🏽';
    input('insertText', '👍🏽');
    expect(log).toEqual(['"👍🏽"']);
    expect(keys.field.value).toBe('');
  });
});

describe('pasting', () => {
  const pasteEvent = () => keys.field.dispatchEvent(Object.assign(new Event('paste', { cancelable: true }), { clipboardData: {} }));
  const ctrlV = () => send('keydown', 'KeyV', 'v', { ctrlKey: true });
  const turn = () => new Promise((done) => setTimeout(done));

  beforeEach(() => {
    takesText = true;
    send('keydown', 'ControlLeft', 'Control', { ctrlKey: true });
    log = [];
  });

  it('gives the desktop the text before the key, and the keys after it wait', async () => {
    let done = (_: boolean) => {};
    give = () => new Promise((resolve) => (done = resolve));
    expect(ctrlV(), 'left to the browser, which then has a paste event').toBe(false);
    pasteEvent();
    send('keyup', 'KeyV', 'v', { ctrlKey: true });
    send('keyup', 'ControlLeft', 'Control');
    send('keydown', 'KeyA', 'a');
    await turn();
    expect(log).toEqual([]);
    done(true);
    await turn();
    expect(log).toEqual(['+KeyV(v)', '-KeyV(v)', '-ControlLeft', '+KeyA(a)']);
  });

  it('sends no key that would paste something else', async () => {
    give = async () => false;
    ctrlV();
    pasteEvent();
    send('keyup', 'KeyV', 'v', { ctrlKey: true });
    await turn();
    expect(log).toEqual([]);
    send('keyup', 'ControlLeft', 'Control');
    expect(log).toEqual(['-ControlLeft']);
  });

  it('is a key like any other when the browser has nothing to paste', async () => {
    ctrlV();
    send('keyup', 'KeyV', 'v', { ctrlKey: true });
    await turn();
    expect(log).toEqual(['+KeyV(v)', '-KeyV(v)']);
  });

  it('leaves no key down when the focus leaves meanwhile', async () => {
    let done = (_: boolean) => {};
    give = () => new Promise((resolve) => (done = resolve));
    ctrlV();
    pasteEvent();
    other.focus();
    done(true);
    await turn();
    expect(log).toEqual(['-ControlLeft', 'released']);
  });

  it('is a key where the desktop takes no text', () => {
    takesText = false;
    expect(ctrlV()).toBe(true);
    expect(log).toEqual(['+KeyV(v)']);
  });
});
