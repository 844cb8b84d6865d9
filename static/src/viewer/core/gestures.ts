/**
 * Gesture recognizer without DOM or clock: tap is a click, hold is the right button, one finger drags, two fingers scroll
 * or pinch.
 */
export interface Point {
  x: number;
  y: number;
}

export type Gesture =
  | ({ kind: 'tap' | 'hold' } & Point)
  /** One finger moves; `start` has the position of the touch. */
  | ({ kind: 'drag'; phase: 'start' | 'move' | 'end' } & Point)
  /** Two fingers move together, by `dx`, `dy` since the previous event. */
  | ({ kind: 'scroll'; dx: number; dy: number } & Point)
  | { kind: 'pinch'; way: 'in' | 'out' };

/** Smaller movements are ignored. */
const STILL_PX = 12;
const HOLD_MS = 600;
/** Change of the distance from which two fingers pinch instead of scroll. */
const PINCH_RATIO = 1.25;

type State = 'none' | 'down' | 'drag' | 'two' | 'scroll' | 'spent';

export class Gestures {
  #state: State = 'none';
  readonly #fingers = new Map<number, Point>();
  #start: Point = { x: 0, y: 0 };
  #middle: Point = { x: 0, y: 0 };
  #apart = 0;
  #cancelHold: (() => void) | null = null;
  readonly #act: (gesture: Gesture) => void;
  readonly #later: (ms: number, act: () => void) => () => void;

  constructor(act: (gesture: Gesture) => void, later: (ms: number, act: () => void) => () => void) {
    this.#act = act;
    this.#later = later;
  }

  down(id: number, at: Point): void {
    this.#fingers.set(id, at);
    if (this.#fingers.size === 1) {
      this.#state = 'down';
      this.#start = at;
      this.#cancelHold = this.#later(HOLD_MS, () => {
        if (this.#state !== 'down') return;
        this.#state = 'spent';
        this.#act({ kind: 'hold', ...this.#start });
      });
      return;
    }
    this.#cancelHold?.();
    if (this.#fingers.size === 2 && this.#state === 'down') {
      this.#state = 'two';
      this.#middle = this.#centre();
      this.#apart = this.#distance();
    } else {
      this.#endDrag(at);
      this.#state = 'spent';
    }
  }

  move(id: number, at: Point): void {
    if (!this.#fingers.has(id)) return;
    this.#fingers.set(id, at);
    if (this.#state === 'down' && Math.hypot(at.x - this.#start.x, at.y - this.#start.y) > STILL_PX) {
      this.#cancelHold?.();
      this.#state = 'drag';
      this.#act({ kind: 'drag', phase: 'start', ...this.#start });
    }
    if (this.#state === 'drag') this.#act({ kind: 'drag', phase: 'move', ...at });
    else if (this.#state === 'two' || this.#state === 'scroll') this.#both();
  }

  up(id: number): void {
    const at = this.#fingers.get(id);
    if (!at) return;
    this.#fingers.delete(id);
    this.#cancelHold?.();
    if (this.#state === 'down') this.#act({ kind: 'tap', ...this.#start });
    this.#endDrag(at);
    this.#state = this.#fingers.size === 0 ? 'none' : 'spent';
  }

  /** The system has taken the touch: no tap. */
  cancel(id: number): void {
    const at = this.#fingers.get(id);
    if (!at) return;
    this.#cancelHold?.();
    this.#endDrag(at);
    this.#state = 'spent';
    this.up(id);
  }

  #endDrag(at: Point): void {
    if (this.#state === 'drag') this.#act({ kind: 'drag', phase: 'end', ...at });
  }

  #both(): void {
    const middle = this.#centre();
    const ratio = this.#distance() / Math.max(1, this.#apart);
    if (this.#state === 'two') {
      if (ratio > PINCH_RATIO || ratio < 1 / PINCH_RATIO) {
        this.#state = 'spent';
        this.#act({ kind: 'pinch', way: ratio > 1 ? 'out' : 'in' });
        return;
      }
      if (Math.hypot(middle.x - this.#middle.x, middle.y - this.#middle.y) <= STILL_PX) return;
      this.#state = 'scroll';
    }
    this.#act({ kind: 'scroll', dx: middle.x - this.#middle.x, dy: middle.y - this.#middle.y, ...middle });
    this.#middle = middle;
  }

  #centre(): Point {
    const [a, b] = [...this.#fingers.values()] as [Point, Point];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  }

  #distance(): number {
    const [a, b] = [...this.#fingers.values()] as [Point, Point];
    return Math.hypot(a.x - b.x, a.y - b.y);
  }
}
