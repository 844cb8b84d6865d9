/** Says above the desktop, also while the toolbar is closed, that the session ends soon, and extends it. */
import type { Session } from '../../api/types';
import { durationText, extension } from '../../lib/extension';
import { span, stopwatch, upcoming } from '../../lib/format';
import { viewer } from '../../lib/strings';
import { type Deadline, ReadOut, deadline, minutesLeft } from '../core/time-left';
import { h } from './dom';

const s = viewer.ends;

export interface TimeLeftActions {
  /** Extends the session, and returns it. */
  extend(duration: string): Promise<Session>;
  /** The session as it is after the extension. */
  extended(session: Session): void;
  /** A sentence for a failure. */
  explain(error: unknown): string;
  /** Shows that somebody is there, where no input reaches the desktop. */
  stay(): void;
  /** The time of the gateway. */
  now(): number;
}

export class TimeLeft {
  readonly element: HTMLElement;
  readonly #clock = h('strong', { 'data-testid': 'time-left-clock', 'aria-hidden': 'true' });
  readonly #advice = h('span', { class: 'advice', 'data-testid': 'time-left-advice' });
  readonly #live = h('p', { class: 'visually-hidden', 'aria-live': 'polite', 'data-testid': 'time-left-live' });
  readonly #problem = h('span', { class: 'problem', role: 'alert', 'data-testid': 'time-left-problem', hidden: true });
  readonly #extend: HTMLButtonElement;
  readonly #stay: HTMLButtonElement;
  readonly #card: HTMLElement;
  readonly #actions: TimeLeftActions;
  readonly #readOut = new ReadOut();
  #session: Session | null = null;
  #viewOnly = false;
  #busy = false;

  constructor(actions: TimeLeftActions) {
    this.#actions = actions;
    this.#extend = h('button', { type: 'button', class: 'button', 'data-testid': 'time-left-extend', hidden: true, click: () => void this.#extendNow() });
    this.#stay = h('button', { type: 'button', class: 'button', 'data-testid': 'time-left-stay', hidden: true, click: () => actions.stay() }, s.stay);
    this.#card = h('div', { class: 'card-left', 'data-testid': 'time-left', hidden: true }, this.#clock, this.#advice, this.#extend, this.#stay, this.#problem);
    // The live region is there from the start: readers announce changes of a region, not its appearance.
    this.element = h('div', { class: 'time-left' }, this.#card, this.#live);
  }

  /** `viewOnly`: no input reaches the desktop. */
  show(session: Session | null, viewOnly: boolean): void {
    this.#session = session;
    this.#viewOnly = viewOnly;
    this.tick();
  }

  /** The end that is near; null while none is. */
  tick(): Deadline | null {
    const end = deadline(this.#session, this.#actions.now());
    this.#card.hidden = !end;
    const minutes = this.#readOut.next(end);
    if (!end) return null;
    const by = end.kind === 'expires' ? extension(this.#session) : null;
    this.#card.dataset.kind = end.kind;
    this.#card.dataset.urgent = String(end.urgent);
    this.#clock.textContent = s.clock(stopwatch(end.left));
    this.#advice.textContent = end.kind === 'idle' ? (this.#viewOnly ? s.idleViewOnly : s.idle) : by === null ? s.save : end.urgent ? s.saveOrExtend : '';
    this.#extend.hidden = by === null;
    if (by !== null && !this.#busy) this.#extend.textContent = s.extend(span(by));
    this.#stay.hidden = !(end.kind === 'idle' && this.#viewOnly);
    if (minutes !== null) this.#say(`${s.minutes(minutesLeft(end.left))} ${this.#advice.textContent}`);
    return end;
  }

  async #extendNow(): Promise<void> {
    const by = extension(this.#session);
    if (by === null || this.#busy) return;
    this.#busy = true;
    this.#extend.disabled = true;
    this.#extend.textContent = s.extending;
    this.#problem.hidden = true;
    try {
      const session = await this.#actions.extend(durationText(by));
      this.#say(s.extended(upcoming(session.expires_at, this.#actions.now())));
      this.#actions.extended(session);
    } catch (error) {
      this.#problem.textContent = this.#actions.explain(error) || s.failed;
      this.#problem.hidden = false;
    } finally {
      this.#busy = false;
      this.#extend.disabled = false;
      this.tick();
    }
  }

  #say(words: string): void {
    this.#live.textContent = words.trim();
  }
}
