/** Position of the canvas in the window: scaled, or unscaled with panning. */
import type { Sizing } from '../core/protocol';

export interface Place {
  left: number;
  top: number;
  width: number;
  height: number;
}
interface Box {
  width: number;
  height: number;
}

/** Scaled to `window` and centred, at most by a factor of three. */
export function fitted(picture: Box, window: Box): Place {
  const scale = Math.min(window.width / picture.width, window.height / picture.height, 3);
  const width = picture.width * scale;
  const height = picture.height * scale;
  return { left: (window.width - width) / 2, top: (window.height - height) / 2, width, height };
}

/** Unscaled and panned by `dx`, `dy`, clamped to its edges. */
export function moved(picture: Box, window: Box, from: { left: number; top: number }, dx: number, dy: number): Place {
  const along = (at: number, size: number, room: number) => (size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, at)));
  return {
    left: along(from.left + dx, picture.width, window.width),
    top: along(from.top + dy, picture.height, window.height),
    width: picture.width,
    height: picture.height,
  };
}

/** Minimum usable desktop size; in smaller windows it is scaled or panned. */
export function minimumDesktop({ width, height }: Box): Box {
  return { width: Math.max(width, 1024), height: Math.max(height, 768) };
}

/** The desktop size to request for a window: a multiple of 4, within the limits of servers (MS-RDPEDISP 2.2.2.2.1: 200 to 8192, even). */
export function desktopSize({ width, height }: Box): Box {
  const within = (value: number) => Math.min(8192, Math.max(200, Math.floor(value / 4) * 4));
  return { width: within(width), height: within(height) };
}

export class Screen {
  readonly canvas: HTMLCanvasElement;
  readonly #target: HTMLElement;
  readonly #watch: ResizeObserver;
  readonly #picture: MutationObserver;
  #sizing: Sizing = 'fit';
  #left = 0;
  #top = 0;

  constructor(target: HTMLElement, resized: () => void) {
    this.#target = target;
    this.canvas = document.createElement('canvas');
    this.canvas.className = 'rdp';
    this.canvas.setAttribute('data-testid', 'viewer-screen');
    target.append(this.canvas);
    this.#watch = new ResizeObserver(() => {
      this.place();
      resized();
    });
    this.#watch.observe(target);
    // IronRDP resizes the canvas without an event.
    this.#picture = new MutationObserver(() => this.place());
    this.#picture.observe(this.canvas, { attributeFilter: ['width', 'height'] });
  }

  get viewport(): Box {
    return { width: this.#target.clientWidth, height: this.#target.clientHeight };
  }

  set sizing(sizing: Sizing) {
    this.#sizing = sizing;
    this.place();
  }

  /** Pans, when sizing is `actual`. */
  pan(dx: number, dy: number): boolean {
    if (this.#sizing !== 'actual') return false;
    this.place(dx, dy);
    return true;
  }

  place(dx = 0, dy = 0): void {
    const { canvas } = this;
    const { left, top, width, height } = this.#sizing === 'actual' ? moved(canvas, this.viewport, { left: this.#left, top: this.#top }, dx, dy) : fitted(canvas, this.viewport);
    this.#left = left;
    this.#top = top;
    Object.assign(canvas.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
  }

  end(): void {
    this.#watch.disconnect();
    this.#picture.disconnect();
  }
}
