/**
 * The viewer page `/viewer/{session_id}`: puts the connection (`core/link`), the picture (`core/novnc`) and the
 * controls (`ui/`) together. Nothing here is reachable from outside the module.
 */
import '../styles/tokens.css';
import './viewer.css';
import * as api from '../api/calls';
import { ApiError } from '../api/http';
import type { Session } from '../api/types';
import { viewer as s, common } from '../lib/strings';
import { type Trouble } from './core/legs';
import { Link, type LinkState } from './core/link';
import { type Allowed, type Capabilities, type Choices, type Driver, type OpenProtocol, type Sizing, allowedBy } from './core/protocol';
import { chooseSizing, sizingFor, sizings } from './core/sizing';
import { ClipboardPanel } from './ui/clipboard';
import { credentialForm } from './ui/credential';
import { h, icon, remembered } from './ui/dom';
import { KeyRow } from './ui/key-row';
import { confirmDisconnect, ending, hint, tabHint, waiting } from './ui/pages';
import { Settings } from './ui/settings';
import { Toolbar } from './ui/toolbar';
import { touchKeyboard } from './ui/touch-keyboard';

/** The gateway answers in milliseconds; a question that takes longer than this is a lost network. */
const ANSWER_LIMIT_MS = 4_000;

const id = decodeURIComponent(location.pathname.split('/')[2] ?? '');
const root = document.getElementById('viewer') ?? document.body;

const desktop = h('div', { class: 'desktop', 'data-testid': 'viewer-canvas' });
const ghost = h('div', { class: 'ghost', 'data-testid': 'viewer-ghost', 'aria-hidden': 'true' });
const overlay = h('div', { class: 'overlay', 'data-testid': 'viewer-overlay' });

let session: Session | null = null;
/** By the widest the window has been at this angle: an on-screen keyboard that takes half of it makes no phone of it. */
const size = () => ({ width: innerWidth, height: Math.max(innerHeight, Math.min(innerWidth, screen.availHeight)) });
let sizing: Sizing = sizingFor(size(), remembered);

let can: Capabilities | null = null;
let allowed: Allowed = allowedBy(null);
const settings = new Settings(({ quality, keyboard }) => {
  link.protocol?.setQuality(quality);
  link.protocol?.setKeyboardMode(keyboard);
});
const choices = (): Choices => ({ sizing, allowed, quality: settings.quality, keyboard: settings.keyboard });

/** Each protocol is loaded only for the workspaces that need it. */
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
    // The files of this page are gone when the gateway was updated meanwhile; a new page has the new ones. Not for ever:
    // what is missing for another reason would be missing again.
    if (Date.now() - Number(sessionStorage.getItem(RELOADED) ?? 0) > RELOAD_AGAIN_MS) {
      sessionStorage.setItem(RELOADED, String(Date.now()));
      location.reload();
    }
    throw error;
  }
}

/** Shows what the protocol can do and the workspace allows. */
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

async function soon<T>(answer: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new ApiError(0, 'No answer in time')), ANSWER_LIMIT_MS);
  });
  return Promise.race([answer, late]).finally(() => clearTimeout(timer));
}

const link = new Link(
  {
    session: () => soon(api.session(id)),
    ticket: () => soon(api.ticket(id)),
    protocol,
    streamUrl: ({ url, ticket }, { app_origin }) => {
      // Never opened as an address: the frame takes the ticket out of it and posts it.
      if (app_origin) return `${app_origin}/?ticket=${encodeURIComponent(ticket)}`;
      const stream = new URL(url, location.origin);
      stream.protocol = location.protocol === 'http:' ? 'ws:' : 'wss:';
      stream.searchParams.set('ticket', ticket);
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
      toolbar.showSession(fresh, Date.now());
      title();
      if (link.state.kind === 'ended') show(link.state);
    },
    picture: (canvas) => ghost.replaceChildren(canvas),
    clipboard: (text) => clipboard.received(text),
    pinched: (next) => setSizing(next),
    restless: offerTab,
  },
);

function setSizing(next: Sizing): void {
  sizing = next;
  chooseSizing(next, size(), remembered);
  link.protocol?.setSizing(next);
  toolbar.showSizing();
}

const clipboard = new ClipboardPanel((text) => link.protocol?.setRemoteClipboard(text));
const keyRow = new KeyRow({
  text: (text) => link.protocol?.sendText(text),
  chord: (keys) => link.protocol?.sendChord(keys),
});
const keyboard = touchKeyboard({ text: (text) => keyRow.text(text), chord: (keys) => keyRow.chord(keys) });
keyboard.addEventListener('focus', () => (keyRow.element.hidden = false));
keyboard.addEventListener('blur', () => (keyRow.element.hidden = true));

const toolbar = new Toolbar({
  clipboard: () => clipboard.element,
  clipboardShown: () => clipboard.focus(),
  settings: () => settings.element,
  sizing: () => sizing,
  sizings: () => sizings(size(), allowed.input),
  setSizing,
  chord: ({ keys }) => link.protocol?.sendChord(keys),
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
        // "Not active" means that it is over already, which is what was asked for.
        if (!(error instanceof ApiError && error.status === 409)) throw error;
      }
      await link.check();
    }),
  left: () => link.protocol?.focus(),
});

const keyboardButton = h(
  'button',
  {
    type: 'button',
    class: 'keyboard-button',
    'data-testid': 'touch-keyboard-button',
    'aria-label': s.keyboard,
    title: s.keyboard,
    // Before the focus moves: a second press puts the keyboard away again.
    pointerdown: (event: PointerEvent) => event.preventDefault(),
    click: () => (document.activeElement === keyboard ? keyboard.blur() : keyboard.focus()),
  },
  icon('touch', 24),
);

root.append(desktop, ghost, overlay, keyboard, keyRow.element, keyboardButton, toolbar.element);

/** Another window, or another rule: another way of showing the desktop may be due. */
function resize(): void {
  const next = sizingFor(size(), remembered, allowed.input);
  if (next === sizing) return;
  sizing = next;
  link.protocol?.setSizing(next);
  toolbar.showSizing();
}
addEventListener('resize', resize);

function title(): void {
  const { kind } = link.state;
  document.title = kind === 'connected' ? name() : `${s.state[kind] ?? kind} · ${session?.workspace_name ?? common.product}`;
}

let ticking: ReturnType<typeof setInterval> | undefined;

function show(state: LinkState): void {
  root.dataset.state = state.kind;
  toolbar.showState(state);
  title();
  clearInterval(ticking);
  if (state.kind === 'connected') {
    overlay.replaceChildren();
    // The old picture stays until the new one is painted, so that nothing flashes.
    requestAnimationFrame(() => requestAnimationFrame(() => ghost.replaceChildren()));
    if (!toolbar.isOpen) link.protocol?.focus();
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

/** The part of the way to blame, in words. */
const blame = ({ leg, text }: Trouble) => (isApplication() && leg === 'host' ? s.application.host : s.legs[leg])(text.replace(/[.\s]+$/, ''));
const isApplication = () => session?.workspace_type === 'html5';

function askCredential({ source, refused, why }: Extract<LinkState, { kind: 'credential' }>): void {
  ghost.replaceChildren();
  const known = session;
  const form = credentialForm({
    name: name(),
    source,
    refused,
    why,
    username: known?.workspace_type !== 'vnc',
    send: (credential) => (source === 'user' && known ? api.saveCredential(known.workspace_id, credential) : api.enterCredential(id, credential)),
    done: () => link.start(),
    explain: (error) => (error instanceof ApiError ? error.detail : ''),
  });
  overlay.replaceChildren(form);
  form.querySelector('input')?.focus({ preventScroll: true });
}

function wait(state: Extract<LinkState, { kind: 'opening' | 'reconnecting' }>): void {
  const seconds = Math.floor((Date.now() - state.since) / 1000);
  // A moment without the gateway is nothing to worry about yet.
  const trouble = state.trouble && (seconds >= 4 || state.trouble.leg !== 'gateway') ? blame(state.trouble) : null;
  const [heading, text] =
    state.kind === 'opening' ? [s.opening(name()), trouble ?? (isApplication() ? s.application.opening(seconds) : s.openingText(seconds))] : [s.reconnecting(seconds), trouble ?? (isApplication() ? s.application.reconnecting : s.reconnectingHint)];
  const present = overlay.querySelector('.wait');
  const paragraph = present?.querySelector('p');
  if (present && paragraph) {
    // Changing the words in place keeps the focus on the way out.
    (present.querySelector('h1') as HTMLElement).textContent = heading;
    paragraph.textContent = text;
    (present as HTMLElement).dataset.seconds = String(seconds);
  } else {
    overlay.replaceChildren(waiting(heading, text, seconds));
  }
}

const SIGN_IN = `/signin?return=${encodeURIComponent(location.pathname)}`;

type Ended = Exclude<LinkState, { kind: 'opening' | 'connected' | 'reconnecting' | 'credential' }>;

function end(state: Ended): void {
  // Whatever was on the screen is not for whoever comes by next.
  ghost.replaceChildren();
  desktop.replaceChildren();
  toolbar.element.remove();
  keyboard.remove();
  keyRow.element.remove();
  keyboardButton.remove();
  document.querySelectorAll('.first-hint').forEach((card) => card.remove());
  if (document.fullscreenElement) void document.exitFullscreen();

  const signIn = h('a', { class: 'button primary', href: SIGN_IN, 'data-testid': 'end-signin' }, s.signIn);
  const reload = (words: string) => h('button', { type: 'button', class: 'button primary', 'data-testid': 'end-retry', click: () => location.reload() }, words);
  const page = (() => {
    switch (state.kind) {
      case 'ended':
        return ending({ ...(s.end[state.reason] ?? s.endOther), ...(isApplication() ? { text: s.application.end[state.reason] ?? s.application.endOther } : {}), picture: state.reason === 'host_lost' ? 'lost' : 'ended', session, act: endAct(state.reason), reason: state.reason });
      case 'signed_out':
        return ending({ ...s.signedOut, picture: 'ended', session, act: signIn, reason: state.kind });
      case 'crowded':
        return ending({ ...s.crowded, picture: 'remote', session, act: reload(s.tryAgain), reason: state.kind });
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
      case 'frameless':
        return ending({ ...s.application[state.why], picture: 'lost', session, act: tab(), reason: `${state.kind}_${state.why}` });
      case 'left':
        return ending({ ...(s.leftWhy[state.why] ?? s.left), picture: 'ended', session, act: reload(s.connectAgain), reason: state.kind, why: state.why });
    }
  })();
  if (state.kind === 'certificate' || state.kind === 'refused') void forAdmins(page, state.kind, state.kind === 'refused' ? state.why : '');
  overlay.replaceChildren(page);
  (page.querySelector('h1') as HTMLElement | null)?.focus({ preventScroll: true });
}

/** The application in a window of its own, by a ticket of its own. True when it was opened. */
async function ownTab(): Promise<boolean> {
  const origin = session?.app_origin;
  if (!origin) return false;
  try {
    const [{ enterTab }, { ticket }] = await Promise.all([import('./html5/frame'), soon(api.ticket(id))]);
    await enterTab(origin, ticket);
    toolbar.close();
    return true;
  } catch {
    flash(s.application.tabFailed);
    return false;
  }
}

/** For an application that loads itself again and again: in its own tab it is no third party, and may store what it likes. */
function offerTab(): void {
  if (document.querySelector('[data-testid=tab-hint]')) return;
  const move = async () => {
    if (!(await ownTab())) return;
    card.remove();
    // Here it would go on loading.
    desktop.replaceChildren();
    overlay.replaceChildren(ending({ ...s.application.moved, picture: 'tab', session, act: tab(s.application.openAgain), reason: 'own_tab' }));
  };
  const card = tabHint(() => void move(), () => (card.hidden = true));
  root.append(card);
}

const tab = (words = s.application.ownTab) => h('button', { type: 'button', class: 'button primary', 'data-testid': 'end-tab', click: () => void ownTab() }, words);

/** Who can mend it gets told how, and the way there. */
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
    () => flash(s.fullScreenHint),
    () => {},
  );
  toolbar.close();
}

function flash(words: string): void {
  const note = h('p', { class: 'flash', role: 'status' }, words);
  root.append(note);
  setTimeout(() => note.remove(), 4000);
}

function firstHint(): void {
  if (remembered('hint')) return;
  const done = () => {
    remembered('hint', 'seen');
    card.remove();
    if (!toolbar.isOpen) link.protocol?.focus();
  };
  const card = hint(done, isApplication());
  document.querySelector('[data-testid=first-hint]')?.remove();
  root.append(card);
  toolbar.whenFirstOpened(done);
}

// Back to work: whatever is open above the desktop gets out of the way.
desktop.addEventListener('pointerdown', () => toolbar.isOpen && toolbar.close(), true);
addEventListener('online', () => link.nudge());
addEventListener('offline', () => link.nudge());
addEventListener('pageshow', (event) => {
  if (event.persisted) link.nudge();
});
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) link.nudge();
});

link.start();
