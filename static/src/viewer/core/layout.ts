/**
 * The keyboard layout of this computer, by Windows' identifier, as an RDP server is told it. Chromium tells which character
 * each key types (`navigator.keyboard.getLayoutMap`); elsewhere the languages of the browser decide.
 */

/** Keys that differ between layouts, in the order of the characters below. */
const KEYS = 'Backquote Digit1 Digit2 Digit3 Digit0 Minus Equal KeyQ KeyW KeyE KeyY BracketLeft BracketRight KeyA Semicolon Quote Backslash IntlBackslash KeyZ KeyM Comma Slash'.split(' ');

/** Identifier, languages that have it by default, and what its keys type (xkeyboard-config 2.35; a dead key as its accent). */
const LAYOUTS: readonly (readonly [id: string, languages: string, characters: string])[] = [
  ['0x00010416', 'pt-BR', '\'1230-=qwey´[aç~]\\zm,;'],
  ['0x00000405', 'cs', ';+ěšé=´qwezú)aů§¨\\ym,-'],
  ['0x00000406', 'da', '½1230+´qweyå¨aæø\'<zm,-'],
  ['0x00000409', 'en', '`1230-=qwey[]a;\'\\<zm,/'],
  ['0x0000040b', 'fi', '§1230+´qweyå¨aöä\'<zm,-'],
  ['0x0000040c', 'fr', '²&é"à)=azey^$qmù*<w,;!'],
  ['0x00000407', 'de', '^1230ß´qwezü+aöä#<ym,-'],
  ['0x00000408', 'el', '`1230-=;ςευ[]α´\'\\«ζμ,/'],
  ['0x0000040e', 'hu', '0123öüóqwezőúaéáűíym,-'],
  ['0x00000410', 'it', '\\1230\'ìqweyè+aòàù<zm,-'],
  ['0x00000411', 'ja', '?1230-^qwey@[a;:]<zm,/'],
  ['0x00000412', 'ko', '`1230-=qwey[]a;\'\\<zm,/'],
  ['0x00000414', 'no nb nn', '|1230+\\qweyå¨aøæ\'<zm,-'],
  ['0x00000415', 'pl', '`1230-=qwey[]a;\'\\<zm,/'],
  ['0x00000816', 'pt', '\\1230\'«qwey+´açº~<zm,-'],
  ['0x00010418', 'ro', '`1230-=qwey[]a;\'\\\\zm,/'],
  ['0x00000419', 'ru', 'ё1230-=йцунхъфжэ\\/яьб.'],
  ['0x0000041b', 'sk', ';+ľšé=´qwezúäaô§ň\\ym,-'],
  ['0x0000040a', 'es', 'º1230\'¡qwey`+añ´ç<zm,-'],
  ['0x0000041d', 'sv', '§1230+´qweyå¨aöä\'<zm,-'],
  ['0x0000041f', 'tr', '"1230*-qweyğüaşi,<zmö.'],
  ['0x00000422', 'uk', '\'1230-=йцунхїфжєґ/яьб.'],
  ['0x0000080c', 'fr-BE', '²&é"à)-azey^$qmùµ<w,;='],
  ['0x00000813', 'nl-BE', '²&é"à)-azey^$qmùµ<w,;='],
  ['0x00011009', '', '/1230-=qwey^ça;èàùzm,é'],
  ['0x00001009', 'fr-CA', '#1230-=qwey^¸a;`<«zm,é'],
  ['0x00000809', '', '`1230-=qwey[]a;\'#\\zm,/'],
  ['0x00020409', '', '`1230-=qwey[]a;´\\\\zm,/'],
  ['0x0000080a', 'es-419', '|1230\'¿qwey´+añ{}<zm,-'],
  ['0x00000807', 'de-CH', '§1230\'^qwezü¨aöä$<ym,-'],
  ['0x0000100c', 'fr-CH', '§1230\'^qwezè¨aéà$<ym,-'],
];

const US = '0x00000409';
/** Countries whose layout is another one's. */
const SAME_AS: Record<string, string> = { 'en-GB': '0x00000809', 'en-IE': '0x00000809', 'es-MX': '0x0000080a', 'es-AR': '0x0000080a', 'es-CO': '0x0000080a', 'es-CL': '0x0000080a', 'de-LI': '0x00000807' };
/**
 * Their layouts have no Latin letters, and a browser names the Latin one of the two that such a computer has. A server
 * that types by layout (xrdp) could not be given a single command with the other one.
 */
const NOT_LATIN = ['0x00000408', '0x00000419', '0x00000422'];

/** The layout of the first language that has one. */
function ofLanguages(languages: readonly string[]): string {
  for (const tag of languages) {
    const [language = ''] = tag.split('-');
    const found = SAME_AS[tag] ?? [tag, language].map((name) => LAYOUTS.find(([, names]) => names.split(' ').includes(name))?.[0]).find((id) => id);
    if (found) return NOT_LATIN.includes(found) ? US : found;
  }
  return US;
}

/** How many keys type what the layout says. */
function matches(map: ReadonlyMap<string, string>, characters: string): number {
  return KEYS.filter((key, i) => map.get(key) === characters[i]).length;
}

export function layoutOf(map: ReadonlyMap<string, string> | null, languages: readonly string[]): string {
  const wanted = ofLanguages(languages);
  if (!map || map.size === 0) return wanted;
  const best = Math.max(...LAYOUTS.map(([, , characters]) => matches(map, characters)));
  const found = LAYOUTS.filter(([, , characters]) => matches(map, characters) === best).map(([id]) => id);
  if (found.includes(wanted)) return wanted;
  // A browser that does not know its keyboard says that it is a US one.
  if (found.includes(US)) return /^en\b/.test(languages[0] ?? '') ? US : wanted;
  return found[0] ?? wanted;
}

interface KeyboardMap {
  getLayoutMap?(): Promise<ReadonlyMap<string, string>>;
}

/** The layout of this browser. */
export async function browserLayout(): Promise<string> {
  const keyboard = (navigator as Navigator & { keyboard?: KeyboardMap }).keyboard;
  const map = await keyboard?.getLayoutMap?.().catch(() => null);
  return layoutOf(map ?? null, navigator.languages);
}
