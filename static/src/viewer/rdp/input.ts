/** Translates keyboard, mouse and touch input to RDP input events. */
import type { Backend as Ironed } from '@devolutions/iron-remote-desktop-rdp';
import { Gestures, type Gesture } from '../core/gestures';
import { HELD_MODIFIERS, keyOf, usCharacterOf, usKeysOf } from '../core/keys';
import type { Key, KeyboardMode, Sizing } from '../core/protocol';
import { strokesOf } from './layout-characters';
import { scancodeOf } from './scancodes';
import type { ServerInput } from './server-input';

type Module = typeof Ironed;
type Session = Awaited<ReturnType<InstanceType<Module['SessionBuilder']>['connect']>>;
type DeviceEvent = Parameters<InstanceType<Module['InputTransaction']>['addEvent']>[0];

const US_LAYOUT = '0x00000409';
const LEFT = 0;
const RIGHT = 2;
/** Unit of wheel deltas: pixels. */
const WHEEL_PIXELS = 0;

/** Modifiers that select a character; Windows reports AltGr as Ctrl and Alt. */
const LAYOUT_MODIFIERS = ['ShiftLeft', 'ShiftRight', 'AltRight', 'ControlLeft'];

export interface InputPorts {
  module: Module;
  session: Session;
  canvas: HTMLCanvasElement;
  /** With sizing `actual`, one finger pans. */
  pan(dx: number, dy: number): boolean;
  pinched(sizing: Sizing): void;
  /** How the server takes characters. */
  server(): ServerInput;
  /** The keyboard layout that it was told. */
  layout: string;
  /** The server has no way to type this character. */
  lost(character: string): void;
}

/**
 * Whether a key types its character: without a shortcut's modifiers, or with those that select characters (AltGr, which
 * Windows reports as Ctrl and Alt; Option on macOS).
 */
function isTyped(event: KeyboardEvent): boolean {
  if ([...event.key].length !== 1) return false;
  if (event.getModifierState('AltGraph')) return true;
  return !event.ctrlKey && !event.metaKey && (!event.altKey || MAC);
}
const MAC = /Mac|iPhone|iPad/.test(navigator.platform);

export class Input {
  #mode: KeyboardMode = 'character';
  readonly #ports: InputPorts;
  readonly #stop = new AbortController();
  readonly #gestures: Gestures;
  /** Modifiers held locally. */
  readonly #held = new Set<string>();
  /** Modifiers released remotely although held locally, so that they are not applied twice to a Unicode character. */
  readonly #suppressed = new Set<string>();
  #locksKnown = false;
  /** Keys whose character was typed when they went down. */
  readonly #typed = new Set<string>();
  #dragged: { x: number; y: number } | null = null;

  constructor(ports: InputPorts) {
    this.#ports = ports;
    this.#gestures = new Gestures((gesture) => this.#gesture(gesture), (ms, act) => {
      const timer = setTimeout(act, ms);
      return () => clearTimeout(timer);
    });
    const { canvas } = ports;
    const { signal } = this.#stop;
    canvas.addEventListener('pointerdown', (event) => this.#pointer(event, true), { signal });
    canvas.addEventListener('pointerup', (event) => this.#pointer(event, false), { signal });
    canvas.addEventListener('pointercancel', (event) => this.#gestures.cancel(event.pointerId), { signal });
    canvas.addEventListener('pointermove', (event) => this.#moved(event), { signal });
    canvas.addEventListener('wheel', (event) => this.#wheel(event), { signal, passive: false });
    canvas.addEventListener('contextmenu', (event) => event.preventDefault(), { signal });
    // A stream that broke may have left them down.
    this.#send(HELD_MODIFIERS.flatMap(({ code }) => scancodeOf(code) ?? []).map((code) => ports.module.DeviceEvent.keyReleased(code)));
  }

  get mode(): KeyboardMode {
    return this.#mode;
  }

  set mode(mode: KeyboardMode) {
    this.#mode = mode;
    this.#locksKnown = false;
  }

  end(): void {
    this.#stop.abort();
  }

  /** Releases all keys and buttons. */
  release(): void {
    this.#locksKnown = false;
    this.#held.clear();
    this.#suppressed.clear();
    this.#typed.clear();
    this.#ports.session.releaseAllInputs();
  }

  chord(keys: readonly Key[]): void {
    const { DeviceEvent } = this.#ports.module;
    const codes = keys.map(({ code }) => scancodeOf(code)).filter((code) => code !== undefined);
    this.#send([...codes.map((code) => DeviceEvent.keyPressed(code)), ...codes.toReversed().map((code) => DeviceEvent.keyReleased(code))]);
  }

  /** Types text, whatever the keyboard mode is. */
  text(text: string): void {
    for (const character of text.replaceAll('\r\n', '\n').normalize('NFC')) this.#type(character);
  }

  #send(events: DeviceEvent[]): void {
    if (events.length === 0) return;
    const transaction = new this.#ports.module.InputTransaction();
    for (const event of events) transaction.addEvent(event);
    this.#ports.session.applyInputs(transaction);
  }

  key(event: KeyboardEvent, pressed: boolean): void {
    const { DeviceEvent } = this.#ports.module;
    const byCharacter = this.mode === 'character';
    if (!pressed && this.#typed.delete(event.code)) return;
    if (!this.#locksKnown) this.#syncLocks(event);
    // A character has the case that Caps Lock gives it here already.
    if (byCharacter && event.key === 'CapsLock') return;
    if (pressed && byCharacter && isTyped(event)) {
      this.#typed.add(event.code);
      this.#type(this.#ports.layout === US_LAYOUT ? usCharacterOf(event) : event.key);
      return;
    }
    const code = scancodeOf(byCharacter ? this.#shortcutCode(event) : event.code);
    if (code === undefined) return;
    const before = pressed ? this.#restoreModifiers() : [];
    if (LAYOUT_MODIFIERS.includes(event.code)) {
      if (pressed) this.#held.add(event.code);
      else this.#held.delete(event.code);
    }
    this.#send([...before, pressed ? DeviceEvent.keyPressed(code) : DeviceEvent.keyReleased(code)]);
  }

  /** The key of a shortcut: where the server knows no layout but its own, the one that has the character on a US keyboard. */
  #shortcutCode({ key, code }: KeyboardEvent): string {
    return this.#ports.server() === 'scancodes' && key.length === 1 && /^Key/.test(code) ? keyOf(key).code || code : code;
  }

  /**
   * Types one character, each of its events pressed and released at once: xrdp presses Shift for as long as a character is
   * down that needs it. One that the server has no way for is reported.
   */
  #type(character: string): void {
    const { DeviceEvent } = this.#ports.module;
    const server = this.#ports.server();
    const keys = { '\n': 'Enter', '\t': 'Tab' }[character] ?? '';
    const codes = keys ? [keys] : server === 'scancodes' ? usKeysOf(character)?.map(({ code }) => code) : null;
    if (codes) {
      const scancodes = codes.flatMap((code) => scancodeOf(code) ?? []);
      return this.#send([...this.#suppressModifiers(), ...scancodes.map((code) => DeviceEvent.keyPressed(code)), ...scancodes.toReversed().map((code) => DeviceEvent.keyReleased(code))]);
    }
    const strokes = server === 'scancodes' ? null : server === 'layout' ? strokesOf(character, this.#ports.layout) : [character];
    if (!strokes) return this.#ports.lost(character);
    this.#send([...this.#suppressModifiers(), ...strokes.flatMap((one) => [DeviceEvent.unicodePressed(one), DeviceEvent.unicodeReleased(one)])]);
  }

  /** Releases the held modifiers remotely. */
  #suppressModifiers(): DeviceEvent[] {
    const held = [...this.#held].filter((code) => !this.#suppressed.has(code));
    for (const code of held) this.#suppressed.add(code);
    return held.map((code) => this.#ports.module.DeviceEvent.keyReleased(scancodeOf(code) ?? 0));
  }

  /** Presses them again, for a key or a click. */
  #restoreModifiers(): DeviceEvent[] {
    const held = [...this.#suppressed].filter((code) => this.#held.has(code));
    this.#suppressed.clear();
    return held.map((code) => this.#ports.module.DeviceEvent.keyPressed(scancodeOf(code) ?? 0));
  }

  #syncLocks(event: KeyboardEvent): void {
    this.#locksKnown = true;
    const on = (name: string) => event.getModifierState(name);
    this.#ports.session.synchronizeLockKeys(on('ScrollLock'), on('NumLock'), on('CapsLock') && this.mode === 'position', on('KanaMode'));
  }

  /** Window coordinates to desktop coordinates. */
  #at({ x, y }: { x: number; y: number }): { x: number; y: number } {
    const { canvas } = this.#ports;
    const box = canvas.getBoundingClientRect();
    const within = (value: number, most: number) => Math.min(Math.max(Math.round(value), 0), Math.max(0, most - 1));
    return {
      x: within(((x - box.left) * canvas.width) / Math.max(1, box.width), canvas.width),
      y: within(((y - box.top) * canvas.height) / Math.max(1, box.height), canvas.height),
    };
  }

  #move(point: { x: number; y: number }): DeviceEvent {
    const { x, y } = this.#at(point);
    return this.#ports.module.DeviceEvent.mouseMove(x, y);
  }

  #pointer(event: PointerEvent, down: boolean): void {
    const { canvas, module } = this.#ports;
    event.preventDefault();
    if (down) canvas.setPointerCapture(event.pointerId);
    if (event.pointerType === 'touch') {
      if (down) this.#gestures.down(event.pointerId, { x: event.clientX, y: event.clientY });
      else this.#gestures.up(event.pointerId);
      return;
    }
    const press = down ? module.DeviceEvent.mouseButtonPressed : module.DeviceEvent.mouseButtonReleased;
    this.#send([...(down ? this.#restoreModifiers() : []), this.#move({ x: event.clientX, y: event.clientY }), press(event.button)]);
  }

  #moved(event: PointerEvent): void {
    if (event.pointerType === 'touch') return this.#gestures.move(event.pointerId, { x: event.clientX, y: event.clientY });
    // A second button pressed while the first is held comes as a move (Pointer Events 3, "chorded" buttons).
    const { DeviceEvent } = this.#ports.module;
    const move = this.#move({ x: event.clientX, y: event.clientY });
    if (event.button < 0) return this.#send([move]);
    const held = (event.buttons & ([1, 4, 2, 8, 16][event.button] ?? 0)) !== 0;
    this.#send([move, held ? DeviceEvent.mouseButtonPressed(event.button) : DeviceEvent.mouseButtonReleased(event.button)]);
  }

  #wheel(event: WheelEvent): void {
    event.preventDefault();
    const { DeviceEvent } = this.#ports.module;
    const events: DeviceEvent[] = [];
    if (event.deltaY !== 0) events.push(DeviceEvent.wheelRotations(true, -event.deltaY, event.deltaMode));
    if (event.deltaX !== 0) events.push(DeviceEvent.wheelRotations(false, -event.deltaX, event.deltaMode));
    this.#send(events);
  }

  #click(at: { x: number; y: number }, button: number): void {
    const { DeviceEvent } = this.#ports.module;
    this.#send([this.#move(at), DeviceEvent.mouseButtonPressed(button), DeviceEvent.mouseButtonReleased(button)]);
  }

  #gesture(gesture: Gesture): void {
    const { DeviceEvent } = this.#ports.module;
    switch (gesture.kind) {
      case 'tap':
        return this.#click(gesture, LEFT);
      case 'hold':
        return this.#click(gesture, RIGHT);
      case 'scroll':
        return this.#send([
          this.#move(gesture),
          ...(gesture.dy ? [DeviceEvent.wheelRotations(true, gesture.dy, WHEEL_PIXELS)] : []),
          ...(gesture.dx ? [DeviceEvent.wheelRotations(false, gesture.dx, WHEEL_PIXELS)] : []),
        ]);
      case 'pinch':
        return this.#ports.pinched(gesture.way === 'out' ? 'actual' : 'fit');
      case 'drag':
        return this.#drag(gesture);
    }
  }

  #drag({ phase, x, y }: Extract<Gesture, { kind: 'drag' }>): void {
    const { DeviceEvent } = this.#ports.module;
    const last = this.#dragged;
    if (phase === 'start') {
      if (this.#ports.pan(0, 0)) this.#dragged = { x, y };
      else this.#send([this.#move({ x, y }), DeviceEvent.mouseButtonPressed(LEFT)]);
    } else if (last) {
      this.#ports.pan(x - last.x, y - last.y);
      this.#dragged = phase === 'end' ? null : { x, y };
    } else {
      this.#send([this.#move({ x, y }), ...(phase === 'end' ? [DeviceEvent.mouseButtonReleased(LEFT)] : [])]);
    }
  }
}
