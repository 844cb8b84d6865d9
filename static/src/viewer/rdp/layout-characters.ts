/**
 * How a character is typed on a server that looks Unicode events up in the layout it was told, as xrdp does: directly, by a
 * dead key of that layout, or not at all. A character that the layout does not have vanishes there.
 */

/** Layout, its characters beyond ASCII, its dead keys, and the ASCII characters it lacks (`km-*.ini` of xrdp 0.9.21). */
const LAYOUTS: readonly (readonly [id: string, characters: string, dead: string, lacks: string])[] = [
  ['0x00000406', '¡£¤¥§¨©ª«®µ¶·»½ÅÆØßåæðøþđħĸłŋœ“”€←→↓', '`´¸', ''],
  ['0x00000407', '¡¢£¤¥¦§©ª«¬®¯°±²³µ¶·¹º»¼½¿ÄÆÐÖ×ØÜÞßäæðö÷øüþđĦħıĸŁłŊŋŦŧſΩẞ–—‘’‚“”„…′″‹›€™⅛⅜⅝⅞←↑→↓', '^`¨´¸ˇ˘˙˛˝', ''],
  ['0x00000409', '¦', '', ''],
  ['0x0000040a', '¡¢ª«¬µ¶·º»½¿ÇÑßæçðñøþđħĸłŋŧ“”€←→↓', '^`¨´', ''],
  ['0x0000040b', '¡¢£¤¥¦§©ª«¬®°±²³µ¶·¹º»¼½¾¿ÄÅÆÐÖ×ØÞßäåæðö÷øþđĦħıĸŁłŊŋŒœΩ‘’“”€⅝←↑→↓', '^`~¨´¸ˇ˙˛', ''],
  ['0x0000040c', '¢£¤§«¬°²µ¶·¹»ßàæçèéðøùþđħĸłŋŧ“”€←→↓', '^¨´', ''],
  ['0x00000410', '¡¢£¥¦§©ª«¬®°±²³µ¶·¹º»¼½¿ÆÐÑ×ØÞßàæçèéìðñò÷øùþđĦħıĸŁłŊŋŦŧΩ‘’“”€™⅛⅜⅝⅞←↑→↓', '¨¯´¸˘˛˝', ''],
  ['0x00000411', '¥¦', '', ''],
  ['0x00000412', '¦', '', ''],
  ['0x00000414', '¡£¤¥¦§©ª«®±µ»½ÅÆØßåæðøþđħĸłŋœπ–“”…€←→↓−∕⋅', '^`~¨´¸˝', ''],
  ['0x00000415', '¡¢£¥¦§©«¬®°±²³µ·»¼½¾¿ÆÐÓ×Þßæðó÷þĄąĆćĘęŁłŃńŊŋŒœŚśŹźŻżƏəΩπ–—‘’“”„•…‰€™←↑→↓↔∞∧∨≈≠≤≥', '¨¯´¸ˇ˘˙˛˝', ''],
  ['0x00000416', '¢£§©ª«¬®°±²³µ·¹º»Çßæçðøþđħĸłŋŧ“”€←→↓', '^`~¨´', ''],
  ['0x00000419', '¦ЁАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюяё№', '', '#$&\'<>@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^`abcdefghijklmnopqrstuvwxyz{}~'],
  ['0x0000041d', '¡¢£¤¥¦§©ª«¬®°±²³µ¶·¹º»¼½¾¿ÄÅÆÐÖ×ØÞßäåæðö÷øþđĦħıĸŁłŊŋŒœΩ‘’“”€⅝←↑→↓', '^`~¨´¸ˇ˙˛', ''],
  ['0x00000807', '¢£¦§«¬°µ¶·»¼½ßàäæçèéðöøüþđħĸłŋŧ“”€←→↓', '^`~¨´', ''],
  ['0x00000809', '¡¢£¥¦§©ª«¬®°±²³µ¶·¹º»¼½¾¿ÆÐ×ØÞßæð÷øþđĦħıĸŁłŊŋŦŧΩ‘’“”€™⅛⅜⅝⅞←↑→↓', '¨¯´¸ˇ˘˙˛˝', ''],
  ['0x0000080a', '¡¢£¥¦§©ª«¬®°±µ¶·º»½¿ÆÐÑ×ØÞßæðñ÷øþđĦħıĸŁłŊŋŦŧΩ‘’“”€™⅛⅜⅝⅞←↑→↓', '^`¨¯´¸˙˛˝', ''],
  ['0x0000080c', '¢£§«¬°²³µ¶·»¼½ßàæçèéðùþđħĸłŋœŧ“”€←→↓', '^`~¨´¸', ''],
  ['0x00000813', '¢£§«¬°²³µ¶·»¼½ßàæçèéðùþđħĸłŋœŧ“”€←→↓', '^`~¨´¸', ''],
  ['0x00000816', '¡¢£¥§©ª«¬®°±µ¶·¹º»½¿ÆÇÐ×ØÞßæçð÷øþđĦħıĸŁłŊŋŦŧΩ‘’“”€™⅛⅜⅝⅞←↑→↓', '^`~¨¯´¸ˇ˘˙˛˝', ''],
  ['0x0000100c', '¢£¦§«¬°µ¶·»¼½ßàäæçèéðöøüþđħĸłŋŧ“”€←→↓', '^`~¨´', ''],
  ['0x00010409', '¦·', '¨´¸ˇ˙˛˝', ''],
];
const US = '0x00000409';

/** Accents as dead keys, by their combining character. */
const ACCENTS: Record<string, string> = {
  '\u0300': '`', '\u0301': '´', '\u0302': '^', '\u0303': '~', '\u0304': '¯', '\u0306': '˘', '\u0307': '˙', '\u0308': '¨', '\u030b': '˝', '\u030c': 'ˇ', '\u0327': '¸', '\u0328': '˛',
};

/** xrdp takes a layout it has no map of for the main one of its language, and an unknown language for US English. */
function layoutNamed(id: string) {
  const find = (name: string) => LAYOUTS.find(([known]) => known === name);
  return find(id) ?? find(`0x0000${id.slice(-4)}`) ?? find(US);
}

/** The Unicode events that type `character`; null when `layout` does not have it. */
export function strokesOf(character: string, layout: string): readonly string[] | null {
  const [, characters = '', dead = '', lacks = ''] = layoutNamed(layout) ?? [];
  const direct = (one: string) => characters.includes(one) || (one >= ' ' && one <= '~' && !lacks.includes(one) && !dead.includes(one));
  if (direct(character)) return [character];
  // A dead key by itself: with the space bar where that gives the character, pressed twice elsewhere (X11's Compose file).
  if (dead.includes(character)) return [character, '^`~'.includes(character) ? ' ' : character];
  const [base = '', mark = '', ...more] = character.normalize('NFD');
  const accent = ACCENTS[mark];
  return accent !== undefined && more.length === 0 && dead.includes(accent) && direct(base) ? [accent, base] : null;
}
