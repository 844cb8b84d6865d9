/** Overlays of the viewer: opening, reconnecting, end pages, dialogs and hints. */
import type { Session } from '../../api/types';
import { moment, since, span, utc } from '../../lib/format';
import { viewer as s } from '../../lib/strings';
import { h, icon, type IconName } from './dom';

export function waiting(title: string, text: string, seconds: number): HTMLElement {
  return h(
    'div',
    { class: 'card wait', 'data-testid': 'viewer-wait', 'data-seconds': String(seconds) },
    h('span', { class: 'spinner', 'aria-hidden': 'true' }),
    h('h1', {}, title),
    h('p', { role: 'status' }, text),
    h('a', { class: 'quiet', href: '/', 'data-testid': 'viewer-back' }, s.back),
  );
}

export interface EndPage {
  title: string;
  text: string;
  picture: IconName;
  session: Session | null;
  /** The primary action. */
  act: HTMLElement | null;
  /** The reason code of the API, for tests and support. */
  reason: string;
  /** The reason code of the close frame, for tests and support. */
  why?: string;
}

export function ending({ title, text, picture, session, act, reason, why }: EndPage): HTMLElement {
  const facts: (Node | string)[] = [];
  if (session) {
    facts.push(session.workspace_name);
    if (session.ended_at) {
      const time = h('time', { datetime: session.ended_at, title: utc(session.ended_at) }, moment(session.ended_at, Date.now()));
      facts.push(' · ', time, ` · ${s.lasted(span(since(session.started_at, Date.parse(session.ended_at))))}`);
    }
  }
  return h(
    'section',
    { class: 'card end', 'data-testid': 'end-page', 'data-reason': reason, 'data-why': why ?? '' },
    h('span', { class: 'picture' }, icon(picture, 32)),
    h('h1', { 'data-testid': 'end-title', tabindex: '-1' }, title),
    h('p', { 'data-testid': 'end-text' }, text),
    facts.length > 0 ? h('p', { class: 'facts', 'data-testid': 'end-facts' }, ...facts) : null,
    h('div', { class: 'row' }, act, h('a', { class: act ? 'button' : 'button primary', href: '/', 'data-testid': 'end-back' }, s.back)),
  );
}

/** Confirms the end of a session. */
export function confirmDisconnect(parent: HTMLElement, name: string, application: boolean, act: () => Promise<void>): void {
  const problem = h('p', { class: 'problem', role: 'alert', hidden: true }, s.disconnectFailed);
  const yes = h(
    'button',
    {
      type: 'button',
      class: 'button bad',
      'data-testid': 'confirm-disconnect',
      click: async () => {
        yes.disabled = true;
        yes.textContent = s.disconnecting;
        problem.hidden = true;
        try {
          await act();
          dialog.close();
        } catch {
          problem.hidden = false;
          yes.disabled = false;
          yes.textContent = s.disconnectConfirm;
        }
      },
    },
    s.disconnectConfirm,
  );
  const dialog = h(
    'dialog',
    { 'aria-labelledby': 'ask', 'data-testid': 'disconnect-dialog', close: () => dialog.remove(), keydown: (event: KeyboardEvent) => event.stopPropagation() },
    h('h2', { id: 'ask' }, s.disconnectTitle(name)),
    h('p', {}, application ? s.application.disconnectText : s.disconnectText),
    problem,
    h('div', { class: 'row end' }, h('button', { type: 'button', class: 'button', autofocus: true, click: () => dialog.close() }, s.stay), yes),
  );
  parent.append(dialog);
  dialog.showModal();
}

export function hint(done: () => void, application: boolean): HTMLElement {
  return h(
    'aside',
    { class: 'first-hint', 'data-testid': 'first-hint', role: 'note' },
    h('strong', {}, s.hintTitle),
    h('p', {}, application ? s.application.hint : matchMedia('(pointer: coarse)').matches ? s.hintTouch : s.hintText),
    h('button', { type: 'button', class: 'button', 'data-testid': 'first-hint-ok', click: done }, s.hintOk),
  );
}

/** Suggests a new tab for an application that keeps reloading. */
export function tabHint(move: () => void, stay: () => void): HTMLElement {
  return h(
    'div',
    { class: 'first-hint', 'data-testid': 'tab-hint', role: 'status' },
    h('strong', {}, s.application.reloadLoop),
    h('p', {}, s.application.reloadLoopText),
    h(
      'div',
      { class: 'row' },
      h('button', { type: 'button', class: 'button primary', 'data-testid': 'tab-hint-move', click: move }, s.application.ownTab),
      h('button', { type: 'button', class: 'button', 'data-testid': 'tab-hint-stay', click: stay }, s.application.stayHere),
    ),
  );
}
