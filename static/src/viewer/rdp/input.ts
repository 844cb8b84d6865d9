/** Translates keyboard, mouse and touch input to RDP input events. */
import type { Backend as Ironed } from '@devolutions/iron-remote-desktop-rdp';
import { Gestures, type Gesture } from '../core/gestures';
import type { Key, KeyboardMode, Sizing } from '../core/protocol';
import { scancodeOf } from './scancodes';

type Module = typeof Ironed;
type Session = Awaited<ReturnType<InstanceType<Module['SessionBuilder']>['connect']>>;
type DeviceEvent = Parameters<InstanceType<Module['InputTransaction']>['addEvent']>[0];

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
}

export class Input {
  mode: KeyboardMode = 'position';
  readonly #ports: InputPorts;
  readonly #stop = new AbortController();
  readonly #gestures: Gestures;
  /** Modifiers held locally. */
  readonly #held = new Set<string>();
  /** Modifiers released remotely although held locally, so that they are not applied twice to a Unicode character. */
  readonly #suppressed = new Set<string>();
  #locksKnown = false;
  #dragged: { x: number; y: number } | null = null;

  constructor(ports: InputPorts) {
    this.#ports = ports;
    this.#gestures = new Gestures((gesture) => this.#gesture(gesture), (ms, act) => {
      const timer = setTimeout(act, ms);
      return () => clearTimeout(timer);
    });
    const { canvas } = ports;
    const { signal } = this.#stop;
    canvas.addEventListener('keydown', (event) => this.#key(event, true), { signal });
    canvas.addEventListener('keyup', (event) => this.#key(event, false), { signal });
    canvas.addEventListener('blur', () => this.release(), { signal });
    canvas.addEventListener('pointerdown', (event) => this.#pointer(event, true), { signal });
    canvas.addEventListener('pointerup', (event) => this.#pointer(event, false), { signal });
    canvas.addEventListener('pointercancel', (event) => this.#gestures.up(event.pointerId), { signal });
    canvas.addEventListener('pointermove', (event) => this.#moved(event), { signal });
    canvas.addEventListener('wheel', (event) => this.#wheel(event), { signal, passive: false });
    canvas.addEventListener('contextmenu', (event) => event.preventDefault(), { signal });
    document.addEventListener('visibilitychange', () => document.hidden && this.release(), { signal });
  }

  end(): void {
    this.#stop.abort();
  }

  /** Releases all keys and buttons; releases outside of the canvas are not reported. */
  release(): void {
    this.#locksKnown = false;
    this.#held.clear();
    this.#suppressed.clear();
    this.#ports.session.releaseAllInputs();
  }

  chord(keys: readonly Key[]): void {
    const { DeviceEvent } = this.#ports.module;
    const codes = keys.map(({ code }) => scancodeOf(code)).filter((code) => code !== undefined);
    this.#send([...codes.map((code) => DeviceEvent.keyPressed(code)), ...codes.toReversed().map((code) => DeviceEvent.keyReleased(code))]);
  }

  /** Sends text as Unicode input; line ends and tabs as keys. */
  text(text: string): void {
    const { DeviceEvent } = this.#ports.module;
    for (const character of text) {
      const code = character === '\n' ? scancodeOf('Enter') : character === '\t' ? scancodeOf('Tab') : undefined;
      this.#send(
        code === undefined
          ? [DeviceEvent.unicodePressed(character), DeviceEvent.unicodeReleased(character)]
          : [DeviceEvent.keyPressed(code), DeviceEvent.keyReleased(code)],
      );
    }
  }

  #send(events: DeviceEvent[]): void {
    if (events.length === 0) return;
    const transaction = new this.#ports.module.InputTransaction();
    for (const event of events) transaction.addEvent(event);
    this.#ports.session.applyInputs(transaction);
  }

  #key(event: KeyboardEvent, pressed: boolean): void {
    event.preventDefault();
    event.stopPropagation();
    // Keys of an input method composition are ignored.
    if (event.isComposing || event.key === 'Process') return;
    if (!this.#locksKnown) this.#syncLocks(event);
    const { DeviceEvent } = this.#ports.module;
    const shortcut = event.ctrlKey || event.altKey || event.metaKey;
    const isCharacter = [...event.key].length === 1;
    // AltGr is Ctrl and Alt on some systems and still produces a character.
    const typed = this.mode === 'character' && isCharacter && (!shortcut || event.getModifierState('AltGraph'));
    if (this.mode === 'character' && event.key === 'Dead') return;
    if (typed) {
      this.#send(pressed ? [...this.#suppressModifiers(), DeviceEvent.unicodePressed(event.key)] : [DeviceEvent.unicodeReleased(event.key)]);
      return;
    }
    const code = scancodeOf(event.code);
    if (code === undefined) return;
    const before = pressed ? this.#restoreModifiers() : [];
    if (LAYOUT_MODIFIERS.includes(event.code)) {
      if (pressed) this.#held.add(event.code);
      else this.#held.delete(event.code);
    }
    this.#send([...before, pressed ? DeviceEvent.keyPressed(code) : DeviceEvent.keyReleased(code)]);
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
    this.#ports.session.synchronizeLockKeys(on('ScrollLock'), on('NumLock'), on('CapsLock'), on('KanaMode'));
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
    if (down) {
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
    }
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
