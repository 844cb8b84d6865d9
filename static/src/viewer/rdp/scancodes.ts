/** Physical keys as RDP knows them: scancodes of set 1, with 0xE000 added for the extended ones (MS-RDPBCGR 2.2.8.1.1.3.1.1.1). */

/** Keys in the order of their scancodes, from the first number on; `-` leaves one out. */
const ROWS: readonly [first: number, codes: string][] = [
  [0x01, 'Escape Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9 Digit0 Minus Equal Backspace Tab'],
  [0x10, 'KeyQ KeyW KeyE KeyR KeyT KeyY KeyU KeyI KeyO KeyP BracketLeft BracketRight Enter ControlLeft'],
  [0x1e, 'KeyA KeyS KeyD KeyF KeyG KeyH KeyJ KeyK KeyL Semicolon Quote Backquote ShiftLeft Backslash'],
  [0x2c, 'KeyZ KeyX KeyC KeyV KeyB KeyN KeyM Comma Period Slash ShiftRight NumpadMultiply AltLeft Space CapsLock'],
  [0x3b, 'F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 NumLock ScrollLock Numpad7 Numpad8 Numpad9 NumpadSubtract Numpad4 Numpad5 Numpad6 NumpadAdd'],
  [0x4f, 'Numpad1 Numpad2 Numpad3 Numpad0 NumpadDecimal - - IntlBackslash F11 F12 NumpadEqual'],
  [0x64, 'F13 F14 F15 F16 F17 F18 F19 F20 F21 F22 F23 - KanaMode Lang2 Lang1 IntlRo - - F24 Lang4 Lang3 Convert - NonConvert - IntlYen NumpadComma'],
  [0xe010, 'MediaTrackPrevious - - - - - - - - MediaTrackNext - - NumpadEnter ControlRight - - AudioVolumeMute LaunchApp2 MediaPlayPause - MediaStop'],
  [0xe02e, 'AudioVolumeDown - AudioVolumeUp - BrowserHome - - NumpadDivide - PrintScreen AltRight'],
  [0xe046, 'Pause Home ArrowUp PageUp - ArrowLeft - ArrowRight - End ArrowDown PageDown Insert Delete'],
  [0xe05b, 'MetaLeft MetaRight ContextMenu Power'],
  [0xe065, 'BrowserSearch BrowserFavorites BrowserRefresh BrowserStop BrowserForward BrowserBack LaunchApp1 LaunchMail MediaSelect'],
];

const SCANCODES = new Map<string, number>(
  ROWS.flatMap(([first, codes]) => codes.split(' ').map((code, i): [string, number] => [code, first + i])).filter(([code]) => code !== '-'),
);

/** The scancode of a `KeyboardEvent.code`, or undefined for a key that RDP has none for. */
export const scancodeOf = (code: string): number | undefined => SCANCODES.get(code);
