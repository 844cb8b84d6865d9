/**
 * The viewer page `/viewer/{session_id}`: composes the connection (`core/connection`), the protocol (`core/novnc` and
 * others) and the controls (`ui/`).
 */
import '../styles/tokens.css';
import './viewer.css';
import * as api from '../api/calls';
import { ApiError, gatewayNow } from '../api/http';
import type { Session } from '../api/types';
import { viewer as s, common } from '../lib/strings';
import { type HopFailure } from './core/hops';
import { KeyboardFocus } from './core/keyboard';
import { ViewerConnection, type ConnectionState } from './core/connection';
import { type Allowed, type Capabilities, type Choices, type Driver, type OpenProtocol, type Sizing, allowedBy, pixelRatio } from './core/protocol';
import { chooseSizing, sizingFor, sizings } from './core/sizing';
import { minutesLeft } from './core/time-left';
import { ClipboardPanel } from './ui/clipboard';
import { credentialForm } from './ui/credential';
import { h, icon, remembered } from './ui/dom';
import { KeyRow } from './ui/key-row';
import { Notice } from './ui/notice';
import { confirmDisconnect, ending, hint, tabHint, waiting } from './ui/pages';
import { Settings } from './ui/settings';
import { TimeLeft } from './ui/time-left';
import { Toolbar } from './ui/toolbar';
import { WindowSize } from './ui/window-size';
import { touchKeyboard } from './ui/touch-keyboard';

/** A request that takes longer counts as a lost network. */
const ANSWER_LIMIT_MS = 4_000;

const id = decodeURIComponent(location.pathname.split('/')[2] ?? '');
const root = document.getElementById('viewer') ?? document.body;

const desktop = h('div', { class: 'desktop', 'data-testid': 'viewer-canvas' });
const frozenFrame = h('div', { class: 'frozen-frame', 'data-testid': 'viewer-frozen-frame', 'aria-hidden': 'true' });
const overlay = h('div', { class: 'overlay', 'data-testid': 'viewer-overlay' });

const notice = new Notice(root);

let session: Session | null = null;
/** Uses the screen height, because an on-screen keyboard shrinks the window. */
const size = () => ({ width: innerWidth, height: Math.max(innerHeight, Math.min(innerWidth, screen.availHeight)) });
let sizing: Sizing = sizingFor(size(), remembered);

let can: Capabilities | null = null;
let allowed: Allowed = allowedBy(null);
const settings = new Settings(({ quality, keyboard, density }) => {
  connection.protocol?.setDensity(density);
  connection.protocol?.setQuality(quality);
  connection.protocol?.setKeyboardMode(keyboard);
});
const choices = (): Choices => ({ sizing, allowed, quality: settings.quality, density: settings.density, follows: windowSize.leads, keyboard: settings.keyboard });

/** Protocols are loaded on demand. */
const DRIVERS: Record<string, () => Promise<Driver>> = { rdp: () => import('./rdp/ironrdp'), html5: () => import('./html5/frame') };
const rfb = (): Promise<Driver> => import('./core/novnc');
const RELOADED = 'portcullis.viewer.reloaded';
const RELOAD_AGAIN_MS = 30_000;

async function protocol(of: Session): Promise<OpenProtocol> {
  try {
    const driver = await (DRIVERS[of.workspace_type] ?? rfb)();
    can = driver.capabilities;
    offer();
    return driver.driver(desktop, choices);
  } catch (error) {
    // After an update of the gateway the hashed files of this page are gone; a reload gets the new ones. Limited in time,
    // because a file that is missing for another reason stays missing.
    if (Date.now() - Number(sessionStorage.getItem(RELOADED) ?? 0) > RELOAD_AGAIN_MS) {
      sessionStorage.setItem(RELOADED, String(Date.now()));
      location.reload();
    }
    throw error;
  }
}

/** Applies the capabilities of the protocol and the policy of the workspace to the controls. */
function offer(): void {
  if (!can) return;
  toolbar.offer(can, allowed);
  settings.offer(can, allowed);
  clipboard.allow(can.clipboardIn && allowed.clipboardIn, can.clipboardOut && allowed.clipboardOut);
  keyRow.windows = can.windows;
  keyboardButton.hidden = !allowed.input || can.application;
  if (!allowed.input) resize();
}

const name = () => session?.workspace_name ?? s.yourWorkspace;

async function withTimeout<T>(answer: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new ApiError(0, 'No answer in time')), ANSWER_LIMIT_MS);
  });
  return Promise.race([answer, late]).finally(() => clearTimeout(timer));
}

const connection = new ViewerConnection(
  {
    session: () => withTimeout(api.session(id)),
    ticket: async () => {
      const ticket = await withTimeout(api.ticket(id));
      // RDP servers are told a layout: the workspace's, or else this computer's.
      return { ...ticket, keyboard: session?.workspace_type === 'rdp' ? (ticket.keyboard ?? (await (await import('./core/layout')).browserLayout())) : null };
    },
    protocol,
    streamUrl: ({ url, ticket, keyboard: layout }, { app_origin }) => {
      // Not navigated to: the frame reads the ticket from it and posts it.
      if (app_origin) return `${app_origin}/?ticket=${encodeURIComponent(ticket)}`;
      const stream = new URL(url, location.origin);
      stream.protocol = location.protocol === 'http:' ? 'ws:' : 'wss:';
      stream.searchParams.set('ticket', ticket);
      if (layout) stream.searchParams.set('keyboard', layout);
      return stream.href;
    },
    now: () => Date.now(),
    random: () => Math.random(),
    later: (ms, act) => {
      const timer = setTimeout(act, ms);
      return () => clearTimeout(timer);
    },
  },
  {
    state: show,
    session: (fresh) => {
      session = fresh;
      allowed = allowedBy(fresh.policy);
      offer();
      toolbar.showSession(fresh, gatewayNow());
      timeLeft.show(fresh, !allowed.input);
      windowSize.others = Math.max(0, (fresh.viewers ?? 0) - (connection.state.kind === 'connected' ? 1 : 0));
      title();
      if (connection.state.kind === 'ended') show(connection.state);
    },
    lastFrame: (canvas) => frozenFrame.replaceChildren(canvas),
    clipboard: (text) => void clipboard.received(text),
    clipboardLost: () => clipboard.lost(),
    pinched: (next) => setSizing(next),
    lost: (text) => notice.lost(text, can?.clipboardIn === true && allowed.clipboardIn),
    reloadLoop: offerTab,
  },
);

function setSizing(next: Sizing): void {
  sizing = next;
  chooseSizing(next, size(), remembered);
  connection.protocol?.setSizing(next);
  toolbar.showSizing();
}

const clipboard = new ClipboardPanel({
  send: (text) => connection.protocol?.setRemoteClipboard(text) ?? Promise.reject(new Error('Not connected')),
  limit: () => connection.protocol?.textLimit,
  tell: (words) => notice.show(words),
});
const keyRow = new KeyRow({
  text: (text) => connection.protocol?.sendText(text),
  chord: (keys) => connection.protocol?.sendChord(keys),
});
const keys = new KeyboardFocus(h('textarea', { class: 'keyboard-focus', tabindex: '-1', 'data-testid': 'keyboard-focus', 'aria-label': s.keyboard, autocapitalize: 'off', autocomplete: 'off', autocorrect: 'off', spellcheck: 'false' }), {
  sink: () => connection.protocol,
  paste: (data) => clipboard.paste(data),
  pastes: () => connection.protocol !== null && can?.clipboardIn === true && clipboard.takes,
  mac: /Mac|iPhone|iPad/.test(navigator.platform),
});
/** Gives the keyboard to the desktop. */
const focusDesktop = (touch = false): void => {
  const { protocol } = connection;
  if (protocol?.focus) protocol.focus();
  else if (allowed.input) keys.focus(touch);
};

const keyboard = touchKeyboard({ text: (text) => keyRow.text(text), chord: (keys) => keyRow.chord(keys) });
keyboard.addEventListener('focus', () => (keyRow.element.hidden = false));
keyboard.addEventListener('blur', () => {
  keyRow.element.hidden = true;
  keyRow.release();
});

const toolbar = new Toolbar({
  clipboard: () => clipboard.element,
  clipboardShown: () => clipboard.focus(),
  settings: () => settings.element,
  sizing: () => sizing,
  sizings: () => sizings(size(), allowed.input),
  setSizing,
  chord: ({ keys }) => connection.protocol?.sendChord(keys),
  fullScreen: () => void fullScreen(),
  ownTab: () => void ownTab(),
  keyboard: () => {
    toolbar.close();
    keyboard.focus();
  },
  disconnect: () =>
    confirmDisconnect(root, name(), isApplication(), async () => {
      try {
        await api.disconnect(id);
      } catch (error) {
        // 409 means that the session has ended already.
        if (!(error instanceof ApiError && error.status === 409)) throw error;
      }
      await connection.check();
    }),
  entered: () => keys.release(),
  left: () => focusDesktop(),
});

const timeLeft = new TimeLeft({
  extend: (duration) => api.extendSession(id, duration),
  extended: (fresh) => {
    session = fresh;
    toolbar.showSession(fresh, gatewayNow());
    timeLeft.show(fresh, !allowed.input);
    title();
    if (!toolbar.isOpen) focusDesktop();
  },
  explain: (error) => (error instanceof ApiError ? error.detail : ''),
  // A stream that is opened counts as input.
  stay: () => location.reload(),
  now: gatewayNow,
});
setInterval(() => timeLeft.tick() && title(), 1000);

const keyboardButton = h(
  'button',
  {
    type: 'button',
    class: 'keyboard-button',
    'data-testid': 'touch-keyboard-button',
    'aria-label': s.keyboard,
    title: s.keyboard,
    // Keeps the focus, so that a second press closes the keyboard.
    pointerdown: (event: PointerEvent) => event.preventDefault(),
    click: () => (document.activeElement === keyboard ? keyboard.blur() : keyboard.focus()),
  },
  icon('touch', 24),
);

/** Differences that come from rounding. */
const SAME_PX = 4;
const windowSize = new WindowSize(id, {
  follow: (on) => connection.protocol?.follow(on),
  differs: () => {
    const canvas = desktop.querySelector('canvas');
    if (sizing !== 'remote' || !allowed.input || !canvas || connection.state.kind !== 'connected') return false;
    const ratio = pixelRatio(settings.density);
    return Math.abs(canvas.width - desktop.clientWidth * ratio) > SAME_PX || Math.abs(canvas.height - desktop.clientHeight * ratio) > SAME_PX;
  },
});
// The protocols resize their canvas without an event.
new MutationObserver(() => windowSize.show()).observe(desktop, { subtree: true, attributeFilter: ['width', 'height'] });

root.append(windowSize.note, desktop, frozenFrame, overlay, keys.field, keyboard, keyRow.element, keyboardButton, toolbar.element, timeLeft.element);

// The toolbar has one or two rows, and a row of rules.
new ResizeObserver(() => root.style.setProperty('--toolbar-bottom', `${toolbar.bottom}px`)).observe(toolbar.element);

/** Re-evaluates the sizing after the window or the policy changed. */
function resize(): void {
  const next = sizingFor(size(), remembered, allowed.input);
  if (next === sizing) return;
  sizing = next;
  connection.protocol?.setSizing(next);
  toolbar.showSizing();
}
addEventListener('resize', resize);

function title(): void {
  const { kind } = connection.state;
  const end = timeLeft.tick();
  const soon = end ? `${s.ends.title(minutesLeft(end.left))} · ` : '';
  document.title = kind === 'connected' ? soon + name() : `${s.state[kind] ?? kind} · ${session?.workspace_name ?? common.product}`;
}

let ticking: ReturnType<typeof setInterval> | undefined;

function show(state: ConnectionState): void {
  root.dataset.state = state.kind;
  toolbar.showState(state);
  title();
  clearInterval(ticking);
  keys.release();
  if (state.kind === 'connected') {
    overlay.replaceChildren();
    // The last frame stays until the new one is drawn, to avoid a flash.
    requestAnimationFrame(() => requestAnimationFrame(() => frozenFrame.replaceChildren()));
    if (!toolbar.isOpen) focusDesktop();
    windowSize.connected();
    void clipboard.offer();
    firstHint();
  } else if (state.kind === 'opening' || state.kind === 'reconnecting') {
    wait(state);
    ticking = setInterval(() => wait(state), 1000);
  } else if (state.kind === 'credential') {
    askCredential(state);
  } else {
    end(state);
  }
}

/** Describes the failed hop. */
const failureText = ({ leg, text }: HopFailure) => (isApplication() && leg === 'host' ? s.application.host : s.hops[leg])(text.replace(/[.\s]+$/, ''));
const isApplication = () => session?.workspace_type === 'html5';

function askCredential({ source, refused, why }: Extract<ConnectionState, { kind: 'credential' }>): void {
  frozenFrame.replaceChildren();
  const known = session;
  const form = credentialForm({
    name: name(),
    source,
    refused,
    why,
    username: known?.workspace_type !== 'vnc',
    send: (credential) => (source === 'user' && known ? api.saveCredential(known.workspace_id, credential) : api.enterCredential(id, credential)),
    done: () => connection.start(),
    explain: (error) => (error instanceof ApiError ? error.detail : ''),
  });
  overlay.replaceChildren(form);
  form.querySelector('input')?.focus({ preventScroll: true });
}

function wait(state: Extract<ConnectionState, { kind: 'opening' | 'reconnecting' }>): void {
  const seconds = Math.floor((Date.now() - state.since) / 1000);
  // Short outages of the gateway are not shown.
  const failure = state.failure && (seconds >= 4 || state.failure.leg !== 'gateway') ? failureText(state.failure) : null;
  const [heading, text] =
    state.kind === 'opening' ? [s.opening(name()), failure ?? (isApplication() ? s.application.opening(seconds) : s.openingText(seconds))] : [s.reconnecting(seconds), failure ?? (isApplication() ? s.application.reconnecting : s.reconnectingHint)];
  const present = overlay.querySelector('.wait');
  const paragraph = present?.querySelector('p');
  if (present && paragraph) {
    // Updating the text in place keeps the focus.
    (present.querySelector('h1') as HTMLElement).textContent = heading;
    paragraph.textContent = text;
    (present as HTMLElement).dataset.seconds = String(seconds);
  } else {
    overlay.replaceChildren(waiting(heading, text, seconds));
  }
}

const SIGN_IN = `/signin?return=${encodeURIComponent(location.pathname)}`;

type Ended = Exclude<ConnectionState, { kind: 'opening' | 'connected' | 'reconnecting' | 'credential' }>;

function end(state: Ended): void {
  // The last frame must not stay visible after the end.
  frozenFrame.replaceChildren();
  desktop.replaceChildren();
  toolbar.element.remove();
  timeLeft.element.remove();
  keyboard.remove();
  windowSize.note.remove();
  keys.field.remove();
  keyRow.element.remove();
  keyboardButton.remove();
  document.querySelectorAll('.first-hint').forEach((card) => card.remove());
  if (document.fullscreenElement) void document.exitFullscreen();

  const signIn = h('a', { class: 'button primary', href: SIGN_IN, 'data-testid': 'end-signin' }, s.signIn);
  const reload = (words: string) => h('button', { type: 'button', class: 'button primary', 'data-testid': 'end-retry', click: () => location.reload() }, words);
  const page = (() => {
    switch (state.kind) {
      case 'ended':
        return ending({ ...(s.end[state.reason] ?? s.endOther), ...(isApplication() ? { text: s.application.end[state.reason] ?? s.application.endOther } : {}), picture: state.reason === 'host_lost' || state.reason === 'host_restarted' ? 'lost' : 'ended', session, act: endAct(state.reason), reason: state.reason });
      case 'signed_out':
        return ending({ ...s.signedOut, picture: 'ended', session, act: signIn, reason: state.kind });
      case 'too_many_viewers':
        return ending({ ...s.tooManyViewers, picture: 'remote', session, act: reload(s.tryAgain), reason: state.kind });
      case 'missing':
        return ending({ ...s.missing, picture: 'lost', session: null, act: null, reason: state.kind });
      case 'certificate':
        return ending({ ...s.certificate, picture: 'shield', session, act: reload(s.tryAgain), reason: state.kind });
      case 'refused':
        return ending({ ...s.refused, ...s.refusedWhy[state.why], picture: 'key', session, act: reload(s.tryAgain), reason: state.kind, why: state.why });
      case 'forbidden':
        return ending({ ...(state.why === 'redirected' ? s.redirected : s.forbidden), picture: 'shield', session, act: reload(s.tryAgain), reason: state.kind, why: state.why });
      case 'idle':
        return ending({ ...s.application.idle, picture: 'ended', session, act: reload(s.application.openAgain), reason: state.kind });
      case 'frame_blocked':
        return ending({ ...s.application[state.why], picture: 'lost', session, act: tab(), reason: `${state.kind}_${state.why}` });
      case 'desktop_closed':
        return ending({ ...(s.leftWhy[state.why] ?? s.left), picture: 'ended', session, act: reload(s.connectAgain), reason: state.kind, why: state.why });
    }
  })();
  if (state.kind === 'certificate' || state.kind === 'refused') void forAdmins(page, state.kind, state.kind === 'refused' ? state.why : '');
  overlay.replaceChildren(page);
  (page.querySelector('h1') as HTMLElement | null)?.focus({ preventScroll: true });
}

/** Opens the application in a new tab with a new ticket. True when it was opened. */
async function ownTab(): Promise<boolean> {
  const origin = session?.app_origin;
  if (!origin) return false;
  try {
    const [{ enterTab }, { ticket }] = await Promise.all([import('./html5/frame'), withTimeout(api.ticket(id))]);
    await enterTab(origin, ticket);
    toolbar.close();
    return true;
  } catch {
    notice.show(s.application.tabFailed);
    return false;
  }
}

/** Offers a tab to an application that keeps reloading: there it is not third-party, and its storage is not blocked. */
function offerTab(): void {
  if (document.querySelector('[data-testid=tab-hint]')) return;
  const move = async () => {
    if (!(await ownTab())) return;
    card.remove();
    // In the frame it would keep reloading.
    desktop.replaceChildren();
    overlay.replaceChildren(ending({ ...s.application.moved, picture: 'tab', session, act: tab(s.application.openAgain), reason: 'own_tab' }));
  };
  const card = tabHint(() => void move(), () => (card.hidden = true));
  root.append(card);
}

const tab = (words = s.application.ownTab) => h('button', { type: 'button', class: 'button primary', 'data-testid': 'end-tab', click: () => void ownTab() }, words);

/** Shows administrators how to fix it, with a link. */
async function forAdmins(page: HTMLElement, kind: 'certificate' | 'refused', why: string): Promise<void> {
  const known = session;
  const me = await api.me().catch(() => null);
  if (!known || me?.role !== 'admin') return;
  const [words, label] = kind === 'certificate' ? [s.certificate.admin, s.certificate.review] : [s.refusedWhy[why]?.admin ?? s.refused.admin, s.refused.fix];
  const text = page.querySelector('[data-testid=end-text]');
  if (text) text.textContent = words;
  const where = kind === 'certificate' ? 'certificate' : 'edit';
  page.querySelector('.row')?.prepend(h('a', { class: 'button primary', href: `/admin/workspaces?${where}=${encodeURIComponent(known.workspace_id)}`, 'data-testid': 'end-admin' }, label));
  page.querySelector('[data-testid=end-retry]')?.classList.remove('primary');
}

function endAct(reason: string): HTMLElement | null {
  if (reason === 'signed_out' || reason === 'signed_out_by_admin') return h('a', { class: 'button primary', href: SIGN_IN, 'data-testid': 'end-signin' }, s.signIn);
  const known = session;
  if (!known || reason === 'workspace_removed' || reason === 'user_disabled') return null;
  const button = h(
    'button',
    {
      type: 'button',
      class: 'button primary',
      'data-testid': 'end-again',
      click: async () => {
        button.disabled = true;
        const began = Date.now();
        const tell = () => (button.textContent = s.starting(Math.floor((Date.now() - began) / 1000)));
        tell();
        const timer = setInterval(tell, 1000);
        try {
          location.replace((await api.launch(known.workspace_id)).stream_url);
        } catch (error) {
          button.disabled = false;
          button.textContent = s.again(known.workspace_name);
          const said = error instanceof ApiError && error.detail ? ` ${error.detail}` : '';
          overlay.querySelector('.problem')?.remove();
          overlay.querySelector('.row')?.before(h('p', { class: 'problem', role: 'alert' }, s.againFailed + said));
        } finally {
          clearInterval(timer);
        }
      },
    },
    s.again(known.workspace_name),
  );
  return button;
}

interface KeyboardLock {
  lock?(): Promise<void>;
  unlock?(): void;
}

async function fullScreen(): Promise<void> {
  const keys = (navigator as Navigator & { keyboard?: KeyboardLock }).keyboard;
  if (document.fullscreenElement) {
    keys?.unlock?.();
    await document.exitFullscreen();
    return;
  }
  await document.documentElement.requestFullscreen();
  await keys?.lock?.().then(
    () => notice.show(s.fullScreenHint),
    () => {},
  );
  toolbar.close();
}

function firstHint(): void {
  if (remembered('hint')) return;
  const done = () => {
    remembered('hint', 'seen');
    card.remove();
    if (!toolbar.isOpen) focusDesktop();
  };
  const card = hint(done, isApplication());
  document.querySelector('[data-testid=first-hint]')?.remove();
  root.append(card);
  toolbar.whenFirstOpened(done);
}

desktop.addEventListener(
  'pointerdown',
  ({ pointerType, clientX, clientY }) => {
    const touch = pointerType === 'touch';
    windowSize.lead();
    // An open on-screen keyboard stays.
    const typing = touch && document.activeElement === keyboard;
    keys.place(clientX, clientY);
    // A click on the desktop closes the toolbar.
    if (toolbar.isOpen) toolbar.close();
    if (typing) keyboard.focus({ preventScroll: true });
    else focusDesktop(touch);
  },
  true,
);
// The focus stays in the text field, so that a key held for a click stays down.
desktop.addEventListener('mousedown', (event) => event.preventDefault(), true);
// Where the focused element went away, keys go to nobody until the focus is somewhere again.
document.addEventListener('keydown', ({ target, key }) => {
  // An application has its own keyboard focus, and Tab leads out of it to the toolbar.
  if (target !== document.body || connection.state.kind !== 'connected' || isApplication()) return;
  if (!toolbar.isOpen) focusDesktop();
  else if (key === 'Escape') toolbar.escape();
});
addEventListener('online', () => connection.retryNow());
addEventListener('offline', () => connection.retryNow());
addEventListener('pageshow', (event) => {
  if (event.persisted) connection.retryNow();
});
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) connection.retryNow();
});

connection.start();
