import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Gesture, Gestures } from '../src/viewer/core/gestures';
import { keyOf, textKeysOf, usCharacterOf, usKeysOf } from '../src/viewer/core/keys';
import { layoutOf } from '../src/viewer/core/layout';
import { allowedBy } from '../src/viewer/core/protocol';
import { INITIAL, Meter, adjust, levelOf } from '../src/viewer/core/quality';
import { strokesOf } from '../src/viewer/rdp/layout-characters';
import { serverInputOf } from '../src/viewer/rdp/server-input';
import { scancodeOf } from '../src/viewer/rdp/scancodes';
import { desktopSize, fitted, moved } from '../src/viewer/rdp/screen';
import { splitName } from '../src/viewer/ui/credential';
import { only, split } from '../tools/split-wasm';

describe('adaptive image quality', () => {
  const after = (from: typeof INITIAL, ...bits: number[]) => bits.reduce(adjust, from);

  it('goes down after two slow measurements, not after one', () => {
    expect(after(INITIAL, 1e6).at).toBe(INITIAL.at);
    expect(after(INITIAL, 1e6, 1e6).at).toBe(INITIAL.at + 1);
    expect(after(INITIAL, 1e6, 9e6, 1e6).at).toBe(INITIAL.at);
  });

  it('goes up only after four measurements with headroom', () => {
    expect(after(INITIAL, 50e6, 50e6, 50e6).at).toBe(INITIAL.at);
    expect(after(INITIAL, 50e6, 50e6, 50e6, 50e6).at).toBe(0);
    // Just above the threshold is not enough.
    expect(after(INITIAL, ...Array<number>(20).fill(31e6)).at).toBe(INITIAL.at);
  });

  it('does not oscillate when the bandwidth is at the threshold', () => {
    let control = INITIAL;
    const seen: number[] = [];
    for (let i = 0; i < 100; i += 1) {
      control = adjust(control, 8e6 * (i % 2 ? 0.95 : 1.05));
      seen.push(control.at);
    }
    expect(new Set(seen).size).toBe(1);
  });

  it('ends at the lowest and the highest level', () => {
    const low = after(INITIAL, ...Array<number>(50).fill(0));
    expect(levelOf(low)).toEqual({ quality: 2, compression: 9 });
    const high = after(low, ...Array<number>(50).fill(1e9));
    expect(levelOf(high)).toEqual({ quality: 8, compression: 1 });
  });

  it('measures only bursts', () => {
    const meter = new Meter();
    const ten = Array.from({ length: 11 }, (_, i) => meter.add(100_000, i * 10));
    expect(ten.every((bits) => bits === null)).toBe(true);
    // 1,000,000 bytes after the first message, in 100 ms.
    expect(meter.add(10, 1_000)).toBe(80e6);
    expect(meter.add(10, 2_000)).toBe(null);
    expect(meter.add(10, 3_000)).toBe(null);
  });
});

describe('gestures', () => {
  function setUp() {
    const seen: Gesture[] = [];
    let timers: (() => void)[] = [];
    const gestures = new Gestures((gesture) => seen.push(gesture), (_ms, act) => {
      timers.push(act);
      return () => (timers = timers.filter((other) => other !== act));
    });
    return { gestures, seen, wait: () => timers.splice(0).forEach((act) => act()), waiting: () => timers.length };
  }

  it('tap: a click at the start position, despite small movements', () => {
    const { gestures, seen, waiting } = setUp();
    gestures.down(1, { x: 10, y: 10 });
    gestures.move(1, { x: 13, y: 12 });
    gestures.up(1);
    expect(seen).toEqual([{ kind: 'tap', x: 10, y: 10 }]);
    expect(waiting()).toBe(0);
  });

  it('hold: the right button, and no click on release', () => {
    const { gestures, seen, wait } = setUp();
    gestures.down(1, { x: 10, y: 10 });
    wait();
    gestures.up(1);
    expect(seen).toEqual([{ kind: 'hold', x: 10, y: 10 }]);
  });

  it('drag: from start to end', () => {
    const { gestures, seen, waiting } = setUp();
    gestures.down(1, { x: 10, y: 10 });
    gestures.move(1, { x: 40, y: 10 });
    gestures.up(1);
    expect(seen).toEqual([
      { kind: 'drag', phase: 'start', x: 10, y: 10 },
      { kind: 'drag', phase: 'move', x: 40, y: 10 },
      { kind: 'drag', phase: 'end', x: 40, y: 10 },
    ]);
    expect(waiting()).toBe(0);
  });

  it('a second finger ends the drag of the first', () => {
    const { gestures, seen } = setUp();
    gestures.down(1, { x: 10, y: 10 });
    gestures.move(1, { x: 40, y: 10 });
    gestures.down(2, { x: 90, y: 10 });
    gestures.move(2, { x: 120, y: 10 });
    gestures.up(1);
    gestures.up(2);
    expect(seen.at(-1)).toEqual({ kind: 'drag', phase: 'end', x: 90, y: 10 });
  });

  it('two fingers scroll when they move together and pinch when they move apart', () => {
    const scroll = setUp();
    scroll.gestures.down(1, { x: 0, y: 0 });
    scroll.gestures.down(2, { x: 100, y: 0 });
    for (const y of [20, 40]) for (const [id, x] of [[1, 0], [2, 100]] as const) scroll.gestures.move(id, { x, y });
    expect(scroll.seen.length).toBeGreaterThan(0);
    expect(scroll.seen.every(({ kind }) => kind === 'scroll')).toBe(true);
    const sum = scroll.seen.reduce((all, gesture) => all + (gesture.kind === 'scroll' ? gesture.dy : 0), 0);
    expect(sum).toBe(40);

    const pinch = setUp();
    pinch.gestures.down(1, { x: 0, y: 0 });
    pinch.gestures.down(2, { x: 100, y: 0 });
    pinch.gestures.move(2, { x: 140, y: 0 });
    pinch.gestures.move(2, { x: 200, y: 0 });
    expect(pinch.seen).toEqual([{ kind: 'pinch', way: 'out' }]);
  });
});

describe('RDP scancodes', () => {
  it.each([
    ['Escape', 0x01], ['KeyQ', 0x10], ['KeyA', 0x1e], ['KeyZ', 0x2c], ['Space', 0x39], ['F1', 0x3b], ['F12', 0x58], ['NumLock', 0x45], ['IntlBackslash', 0x56],
    ['ControlRight', 0xe01d], ['AltRight', 0xe038], ['Delete', 0xe053], ['ArrowUp', 0xe048], ['MetaLeft', 0xe05b], ['NumpadEnter', 0xe01c], ['PrintScreen', 0xe037],
  ])('%s is %i', (code, scancode) => expect(scancodeOf(code)).toBe(scancode));

  it('are undefined for unknown codes', () => {
    expect(scancodeOf('')).toBeUndefined();
    expect(scancodeOf('-')).toBeUndefined();
  });

  it('maps characters of shortcuts to keys', () => {
    expect(keyOf('C')).toEqual({ keysym: 0x63, code: 'KeyC' });
    expect(keyOf('7').code).toBe('Digit7');
    expect(keyOf('ü').code).toBe('');
  });
});

describe('position of the canvas', () => {
  it('fits and centres', () => {
    expect(fitted({ width: 1000, height: 500 }, { width: 500, height: 500 })).toEqual({ left: 0, top: 125, width: 500, height: 250 });
  });
  it('clamps panning to the edges', () => {
    expect(moved({ width: 1000, height: 400 }, { width: 500, height: 500 }, { left: 0, top: 0 }, 200, 30)).toMatchObject({ left: 0, top: 50 });
    expect(moved({ width: 1000, height: 400 }, { width: 500, height: 500 }, { left: 0, top: 0 }, -900, 0)).toMatchObject({ left: -500 });
  });
  it('requests sizes within the limits of servers', () => {
    expect(desktopSize({ width: 1281, height: 799 })).toEqual({ width: 1280, height: 796 });
    expect(desktopSize({ width: 50, height: 60_000 })).toEqual({ width: 200, height: 8192 });
  });
});

it.each([
  [{ clipboard: 'both', read_only: false }, { clipboardIn: true, clipboardOut: true, input: true }],
  [{ clipboard: 'in', read_only: false }, { clipboardIn: true, clipboardOut: false, input: true }],
  [{ clipboard: 'out', read_only: false }, { clipboardIn: false, clipboardOut: true, input: true }],
  [{ clipboard: 'none', read_only: false }, { clipboardIn: false, clipboardOut: false, input: true }],
  [{ clipboard: 'both', read_only: true }, { clipboardIn: false, clipboardOut: true, input: false }],
])('policy %j allows %j', (policy, allowed) => expect(allowedBy(policy)).toEqual(allowed));

it('splits a domain from a user name', () => {
  expect(splitName(' CORP\\maya ')).toEqual({ username: 'maya', domain: 'CORP' });
  expect(splitName('maya@corp.example')).toEqual({ username: 'maya@corp.example', domain: '' });
});

describe('splitting the WASM from its script', () => {
  const code = (wasm: string) => `const a = "data:application/wasm;base64,${wasm}";\nfunction f() { return new WebSocket(u); }`;
  const real = Buffer.from('\0asm\x01\0\0\0').toString('base64');

  it('replaces it by a URL and redirects new WebSocket', () => {
    const out = split(code(real), (wasm) => `url(${wasm.length})`, '/socket.ts');
    expect(out).toBe('import { openSocket } from "/socket.ts";\nconst a = url(8);\nfunction f() { return openSocket(u); }');
  });
  it('fails on unexpected input', () => {
    expect(() => split(`${code(real)}\n"data:application/wasm;base64,AAAA"`, () => '', 's')).toThrow(/2 times/);
    expect(() => split('', () => '', 's')).toThrow(/0 times/);
    expect(() => split(code('AAAAAAAA'), () => '', 's')).toThrow(/no WASM/);
    expect(only('abc', /b/g)[0]).toBe('b');
  });
});

describe('the keyboard layout that an RDP server is told', () => {
  const german = new Map([['KeyY', 'z'], ['KeyZ', 'y'], ['BracketLeft', 'ü'], ['Semicolon', 'ö'], ['Quote', 'ä'], ['Minus', 'ß'], ['KeyQ', 'q'], ['Slash', '-']]);
  const us = new Map([['KeyY', 'y'], ['KeyZ', 'z'], ['BracketLeft', '['], ['Semicolon', ';'], ['Quote', "'"], ['Minus', '-'], ['KeyQ', 'q'], ['Slash', '/'], ['Backslash', '\\']]);
  const french = new Map([['KeyQ', 'a'], ['KeyA', 'q'], ['KeyW', 'z'], ['KeyZ', 'w'], ['Semicolon', 'm'], ['Digit2', 'é']]);
  const japanese = new Map([['BracketLeft', '@'], ['BracketRight', '['], ['Quote', ':'], ['Semicolon', ';'], ['Equal', '^'], ['KeyQ', 'q']]);

  it('is the one whose keys the browser reports, whatever its language', () => {
    expect(layoutOf(german, ['en-US'])).toBe('0x00000407');
    expect(layoutOf(french, ['de-DE'])).toBe('0x0000040c');
    expect(layoutOf(japanese, ['en-US'])).toBe('0x00000411');
    expect(layoutOf(us, ['en-GB', 'en'])).toBe('0x00000409');
  });

  it('is one of its language where several have the same keys', () => {
    expect(layoutOf(new Map([['KeyQ', 'a'], ['KeyA', 'q'], ['Semicolon', 'm']]), ['fr-BE'])).toBe('0x0000080c');
    expect(layoutOf(us, ['pl'])).toBe('0x00000415');
  });

  it('is that of the language where the browser does not report its keys', () => {
    const of = (...languages: string[]) => [layoutOf(null, languages), layoutOf(us, languages)];
    expect(of('de-DE', 'de', 'en')).toEqual(['0x00000407', '0x00000407']);
    expect(of('de-CH')).toEqual(['0x00000807', '0x00000807']);
    expect(of('fr-CA')).toEqual(['0x00001009', '0x00001009']);
    expect(of('ja')).toEqual(['0x00000411', '0x00000411']);
    expect(layoutOf(null, ['en-GB'])).toBe('0x00000809');
    expect(layoutOf(null, [])).toBe('0x00000409');
    expect(layoutOf(new Map(), ['zh-CN', 'en'])).toBe('0x00000409');
  });

  it('has Latin letters', () => expect(layoutOf(us, ['ru-RU', 'en'])).toBe('0x00000409'));
});

describe('characters on a server that types by layout', () => {
  const GERMAN = '0x00000407';
  it('are sent as they are when the layout has them', () => {
    for (const character of 'aA?ß€@{ö') expect(strokesOf(character, GERMAN), character).toEqual([character]);
    for (const character of 'éèàùç') expect(strokesOf(character, '0x0000040c'), character).toEqual([character]);
    expect(strokesOf('я', '0x00000419')).toEqual(['я']);
  });

  it('are composed by a dead key when it has one', () => {
    expect(strokesOf('é', GERMAN)).toEqual(['´', 'e']);
    expect(strokesOf('Ê', GERMAN)).toEqual(['^', 'E']);
    expect(strokesOf('^', GERMAN)).toEqual(['^', ' ']);
    expect(strokesOf('´', GERMAN)).toEqual(['´', '´']);
  });

  it('are reported when it has not', () => {
    for (const character of ['я', '日', '😀', 'ñ']) expect(strokesOf(character, '0x00000409'), character).toBeNull();
    expect(strokesOf('a', '0x00000419')).toBeNull();
  });

  it('are those of the language, or of US English, for a layout without a map', () => {
    expect(strokesOf('é', '0x00020409')).toBeNull();
    expect(strokesOf('a', '0x00000405')).toEqual(['a']);
    expect(strokesOf('a', '')).toEqual(['a']);
  });
});

describe('what an RDP server takes', () => {
  const capture = (name: string) => readFileSync(new URL(`../../tests/protocol/rdp/${name}.txt`, import.meta.url), 'utf8').split('\n').filter((line) => line.startsWith('< ')).map((line) => Uint8Array.from(Buffer.from(line.slice(2), 'hex')));
  it('is known from its Demand Active PDU', () => {
    expect(capture('xrdp').map(serverInputOf).filter(Boolean)).toEqual(['layout']);
    expect(capture('shadow').map(serverInputOf).filter(Boolean)).toEqual(['scancodes']);
  });

  it('is every character for Windows: its later kind of fast-path input only, and for FreeRDP with Unicode: it repeats the layout', () => {
    const changed = (of: string, flags: number) => {
      const pdu = capture(of).find(serverInputOf)!.slice();
      const at = Buffer.from(pdu).indexOf(Buffer.from([0x0d, 0, 0x58, 0])) + 4;
      pdu.set([flags & 0xff, flags >> 8], at);
      return serverInputOf(pdu);
    };
    expect(changed('xrdp', 0x0135)).toBe('unicode');
    expect(changed('shadow', 0x0039)).toBe('unicode');
  });

  it('is not guessed from bytes that are cut off', () => {
    const whole = capture('xrdp').find(serverInputOf)!;
    for (let n = 0; n < 200; n += 1) expect(serverInputOf(whole.subarray(0, n))).toBeUndefined();
  });
});

describe('text over RFB', () => {
  it('has the scancodes and Shift that servers need which read no keysyms', () => {
    const keys = [...'a@B~\n'].map((character) => textKeysOf(character).map(({ keysym, code }) => `${keysym.toString(16)} ${code}`));
    expect(keys).toEqual([['61 KeyA'], ['ffe1 ShiftLeft', '40 Digit2'], ['ffe1 ShiftLeft', '42 KeyB'], ['ffe1 ShiftLeft', '7e Backquote'], ['ff0d Enter']]);
    expect(textKeysOf('日')).toEqual([{ keysym: 0x0100_65e5, code: '' }]);
  });
});

describe('the keys of a US keyboard', () => {
  it('type the character with Shift, also where an event has the one without', () => {
    const of = (key: string, code: string, shiftKey = true) => usCharacterOf({ key, code, shiftKey });
    expect([of("'", 'Quote'), of('"', 'Quote'), of('9', 'Digit9'), of('9', 'Digit9', false), of('9', 'Numpad9'), of('A', 'KeyA')]).toEqual(['"', '"', '(', '9', '9', 'A']);
  });

  const codes = (character: string) => usKeysOf(character)?.map(({ code }) => code) ?? null;
  it('type every ASCII character, with Shift where it needs it', () => {
    expect(codes('@')).toEqual(['ShiftLeft', 'Digit2']);
    expect(codes('A')).toEqual(['ShiftLeft', 'KeyA']);
    expect(codes('a')).toEqual(['KeyA']);
    for (let n = 0x20; n < 0x7f; n += 1) expect(codes(String.fromCharCode(n)), String.fromCharCode(n)).not.toBeNull();
    expect(codes('é')).toBeNull();
  });
});
