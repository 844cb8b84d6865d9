/**
 * The handle at the top edge and its toolbar. It opens on hover, touch, keyboard focus or Ctrl Alt Shift P, and closes
 * when the pointer returns to the desktop.
 */
import type { Session } from '../../api/types';
import { span, upcoming } from '../../lib/format';
import { viewer as s } from '../../lib/strings';
import { readLatency } from '../core/latency';
import { type Chord, chordsOf } from '../core/keys';
import type { ConnectionState } from '../core/connection';
import type { Allowed, Capabilities, Sizing } from '../core/protocol';
import { h, icon, type IconName } from './dom';
import { isDense } from './settings';

export interface ToolbarActions {
  clipboard(): HTMLElement;
  clipboardShown(): void;
  settings(): HTMLElement;
  sizing(): Sizing;
  /** The two modes available in this window. */
  sizings(): readonly [Sizing, Sizing];
  setSizing(sizing: Sizing): void;
  chord(chord: Chord): void;
  fullScreen(): void;
  /** Shows the application in a tab of its own. */
  ownTab(): void;
  keyboard(): void;
  disconnect(): void;
  /** The keyboard is for the toolbar from here on. */
  entered(): void;
  /** The toolbar closed; the desktop gets the focus. */
  left(): void;
}

const CLOSE_AFTER_MS = 600;
/** The remaining time is shown below this, the time of the end above. */
const TELL_TIME_LEFT_MS = 60 * 60_000;

export class Toolbar {
  readonly element: HTMLElement;
  readonly #state = h('span', { class: 'state', 'data-testid': 'viewer-state', 'data-state': 'opening' });
  readonly #latency = h('span', { class: 'latency', 'data-testid': 'viewer-latency', title: s.latencyHelp });
  readonly #name = h('span', { class: 'name', 'data-testid': 'viewer-name' });
  readonly #facts = h('span', { class: 'facts', 'data-testid': 'viewer-facts' });
  readonly #handle: HTMLButtonElement;
  readonly #rules = h('p', { class: 'rules', 'data-testid': 'viewer-rules', title: s.rules.why, hidden: true });
  readonly #chords = h('div', { class: 'chords' });
  readonly #keys: HTMLElement;
  readonly #clipboard: HTMLElement;
  readonly #settings: HTMLElement;
  readonly #buttons: Record<string, HTMLButtonElement> = {};
  readonly #actions: ToolbarActions;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Opened on purpose, so that it does not close because the pointer moved away. */
  #pinned = false;
  #opened: (() => void) | null = null;

  constructor(actions: ToolbarActions) {
    this.#actions = actions;
    this.#clipboard = actions.clipboard();
    this.#settings = actions.settings();
    this.#handle = h(
      'button',
      { type: 'button', class: 'handle', 'data-testid': 'toolbar-handle', 'aria-expanded': 'false', 'aria-controls': 'bar', 'aria-label': s.openToolbar, click: () => this.#handleClicked() },
      h('span', { class: 'dot' }),
      icon('down', 16),
    );
    this.#keys = h(
      'section',
      { class: 'panel keys', hidden: true, 'aria-label': s.keys, 'data-testid': 'keys-panel' },
      h('p', { class: 'hint' }, s.keysHint),
      this.#chords,
    );
    const bar = h(
      'div',
      { class: 'bar', id: 'bar', role: 'toolbar', 'aria-label': s.toolbar },
      h('div', { class: 'who' }, h('span', { class: 'dot' }), this.#name, h('span', { class: 'sub' }, this.#state, this.#latency, this.#facts)),
      h(
        'div',
        { class: 'tools' },
        this.#button('clipboard', 'clipboard', s.clipboard, () => this.#panel(this.#clipboard)),
        this.#button('keys', 'keys', s.keys, () => this.#panel(this.#keys)),
        this.#button('sizing', 'fit', s.sizings.fit, () => this.#flipSizing()),
        this.#button('keyboard', 'touch', s.keyboard, () => actions.keyboard()),
        this.#button('settings', 'settings', s.settings, () => this.#panel(this.#settings)),
        this.#button('tab', 'tab', s.application.ownTab, () => actions.ownTab()),
        this.#button('fullscreen', 'full', s.fullScreen, () => actions.fullScreen()),
        h('a', { class: 'tool', href: '/', 'data-testid': 'toolbar-portal', title: s.portalHint }, icon('grid'), h('span', {}, s.portal)),
        this.#button('disconnect', 'out', s.disconnect, () => actions.disconnect()),
      ),
      this.#rules,
    );
    this.element = h(
      'div',
      { class: 'toolbar', 'data-testid': 'toolbar', 'data-open': 'false', keydown: (event: KeyboardEvent) => this.#key(event) },
      bar,
      this.#clipboard,
      this.#keys,
      this.#settings,
      this.#handle,
    );
    this.#buttons.disconnect?.classList.add('danger');
    for (const name of ['clipboard', 'keys', 'settings']) this.#buttons[name]?.setAttribute('aria-expanded', 'false');
    this.element.addEventListener('pointerenter', (event) => {
      if (event.pointerType === 'mouse') this.open();
    });
    this.element.addEventListener('pointerleave', (event) => {
      if (event.pointerType === 'mouse' && !this.#pinned && !this.#panelShown) this.#closeSoon();
    });
    // Capture: the shortcut is ours, the desktop never sees the P.
    addEventListener(
      'keydown',
      (event) => {
        if (!(event.ctrlKey && event.altKey && event.shiftKey && event.code === 'KeyP')) return;
        event.preventDefault();
        event.stopImmediatePropagation();
        actions.entered();
        this.toggle();
        if (this.isOpen) (bar.querySelector('.tool') as HTMLElement | null)?.focus();
      },
      true,
    );
    document.addEventListener('fullscreenchange', () => {
      const full = document.fullscreenElement !== null;
      this.#label('fullscreen', full ? s.leaveFullScreen : s.fullScreen);
    });
    this.showSizing();
  }

  /** Where the handle ends, in pixels below the upper edge of the window. */
  get bottom(): number {
    return this.#handle.offsetTop + this.#handle.offsetHeight;
  }

  get isOpen(): boolean {
    return this.element.dataset.open === 'true';
  }

  whenFirstOpened(act: () => void): void {
    this.#opened = act;
  }

  open(): void {
    clearTimeout(this.#timer);
    this.#opened?.();
    this.#opened = null;
    this.element.dataset.open = 'true';
    this.#handle.setAttribute('aria-expanded', 'true');
    this.#handle.setAttribute('aria-label', s.closeToolbar);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#panel(null);
    this.#pinned = false;
    this.element.dataset.open = 'false';
    this.#handle.setAttribute('aria-expanded', 'false');
    this.#handle.setAttribute('aria-label', s.openToolbar);
    this.#actions.left();
  }

  toggle(): void {
    if (this.isOpen) return this.close();
    this.#pinned = true;
    this.open();
  }

  /** Hovering has already opened it, so the first click pins it instead of closing it. */
  #handleClicked(): void {
    if (this.isOpen && !this.#pinned) this.#pinned = true;
    else this.toggle();
  }

  showState(state: ConnectionState): void {
    this.element.dataset.state = state.kind;
    this.#state.dataset.state = state.kind;
    this.#state.textContent = s.state[state.kind] ?? state.kind;
    if (state.kind !== 'connected') this.#latency.textContent = '';
    this.#handle.title = this.#state.textContent;
  }

  showSession(session: Session, now: number): void {
    this.#name.textContent = session.workspace_name;
    const reading = readLatency(session.latency);
    this.#latency.textContent = reading ? s.ms(reading.totalMs) + (reading.slow ? `, ${s.slow[reading.slow]}` : '') : '';
    this.#latency.dataset.slow = reading?.slow ?? '';
    const facts: string[] = [];
    if (session.tunnel_status === 'none') facts.push(s.unencrypted);
    if ((session.viewers ?? 0) > 1) facts.push(s.windows(session.viewers));
    const left = session.expires_at ? Date.parse(session.expires_at) - now : Infinity;
    if (left < TELL_TIME_LEFT_MS) facts.push(s.timeLeft(span(left)));
    else if (left < Infinity) facts.push(s.until(upcoming(session.expires_at, now)));
    this.#facts.textContent = facts.join(', ');
  }

  /** Shows the controls that the protocol supports and the policy allows, and the restrictions in force. */
  offer(can: Capabilities, allowed: Allowed): void {
    const into = can.clipboardIn && allowed.clipboardIn;
    const out = can.clipboardOut && allowed.clipboardOut;
    const show = (name: string, shown: boolean) => {
      const button = this.#buttons[name];
      if (button) button.hidden = !shown;
    };
    show('clipboard', into || out);
    show('keys', allowed.input && !can.application);
    show('keyboard', allowed.input && !can.application);
    show('sizing', !can.application);
    show('tab', can.application);
    show('settings', can.quality || (allowed.input && (can.keyboardModes || (isDense() && !can.application))));
    this.#chords.replaceChildren(
      ...chordsOf(can.windows).map((chord) => h('button', { type: 'button', 'data-testid': `key-${chord.id}`, click: () => this.#actions.chord(chord) }, chord.label)),
    );
    // Rules of a web application concern its requests; a refused request shows its own page.
    const rules = can.application ? [] : [
      ...(allowed.input ? [] : [s.rules.readOnly]),
      ...(into && out ? [] : [into ? s.rules.in : out ? s.rules.out : s.rules.none]),
    ];
    this.#rules.textContent = rules.join(' · ');
    this.#rules.hidden = rules.length === 0;
  }

  #button(id: string, name: IconName, label: string, act: () => void): HTMLButtonElement {
    const button = h(
      'button',
      { type: 'button', class: `tool ${id}`, 'data-testid': `toolbar-${id}`, title: label, 'aria-label': label, click: act },
      icon(name),
      h('span', {}, label),
    );
    this.#buttons[id] = button;
    return button;
  }

  #label(id: string, label: string, name?: IconName): void {
    const button = this.#buttons[id];
    if (!button) return;
    button.title = label;
    button.setAttribute('aria-label', label);
    button.replaceChildren(name ? icon(name) : (button.firstChild as Node), h('span', {}, label));
  }

  #flipSizing(): void {
    const [first, second] = this.#actions.sizings();
    this.#actions.setSizing(this.#actions.sizing() === first ? second : first);
    this.showSizing();
  }

  /** Updates the label of the sizing button. */
  showSizing(): void {
    // The label is the present mode; a click switches to the other.
    const sizing = this.#actions.sizing();
    this.#label('sizing', s.sizings[sizing], sizing);
    this.#buttons.sizing?.setAttribute('data-sizing', sizing);
  }

  get #panels(): readonly (readonly [name: string, panel: HTMLElement])[] {
    return [['clipboard', this.#clipboard], ['keys', this.#keys], ['settings', this.#settings]];
  }

  get #panelShown(): boolean {
    return this.#panels.some(([, panel]) => !panel.hidden);
  }

  #panel(which: HTMLElement | null): void {
    for (const [name, panel] of this.#panels) {
      panel.hidden = panel !== which || !panel.hidden;
      this.#buttons[name]?.setAttribute('aria-expanded', String(!panel.hidden));
    }
    if (which && !which.hidden) this.#actions.entered();
    if (which === this.#clipboard && !which.hidden) this.#actions.clipboardShown();
  }

  /** Closes the panel and focuses its button; without a panel, closes the toolbar. */
  escape(): void {
    const opened = this.#panels.find(([, panel]) => !panel.hidden);
    if (!opened) return this.close();
    this.#panel(null);
    this.#buttons[opened[0]]?.focus();
  }

  #closeSoon(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (!this.#pinned && !this.element.matches(':hover') && !this.#panelShown) this.close();
    }, CLOSE_AFTER_MS);
  }

  #key(event: KeyboardEvent): void {
    event.stopPropagation();
    if (event.key === 'Escape') return this.escape();
    if (event.target instanceof HTMLTextAreaElement) return;
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    if (!step) return;
    const tools = [...this.element.querySelectorAll<HTMLElement>('.tool')].filter((tool) => tool.offsetParent !== null);
    const here = tools.indexOf(document.activeElement as HTMLElement);
    if (here >= 0) tools[(here + step + tools.length) % tools.length]?.focus();
  }
}
