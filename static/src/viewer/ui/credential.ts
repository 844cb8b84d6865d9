/** Asks who the person is to the desktop, before the stream. What is typed goes to the gateway and nowhere else. */
import { viewer } from '../../lib/strings';
import { h, icon } from './dom';

const s = viewer.credential;

export interface CredentialForm {
  name: string;
  source: 'ask' | 'user';
  /** What was given before did not fit, and why in a word of the gateway's. */
  refused: boolean;
  why: string;
  /** RFB's own password has no user name. */
  username: boolean;
  send(credential: { username: string; domain: string; password: string }): Promise<void>;
  done(): void;
  explain(error: unknown): string;
}

/** `DOMAIN\name` apart; anything else is a user name as it is (also `name@domain`, which Windows understands whole). */
export function splitName(text: string): { username: string; domain: string } {
  const [, domain, username] = /^([^\\]+)\\(.+)$/.exec(text.trim()) ?? [];
  return username && domain ? { username, domain } : { username: text.trim(), domain: '' };
}

export function credentialForm(form: CredentialForm): HTMLElement {
  const again = form.refused;
  const known = again && s.why[form.why];
  const text = known || (form.source === 'ask' ? (again ? s.askAgain : s.ask) : again ? s.userAgain : s.user);
  const username = field('credential-username', 'text', 'username');
  const password = field('credential-password', 'password', 'off');
  const problem = h('p', { class: 'problem', role: 'alert', 'data-testid': 'credential-problem', hidden: true });
  const label = form.source === 'ask' ? s.ask_submit : s.user_submit;
  const submit = h('button', { type: 'submit', class: 'button primary', 'data-testid': 'credential-submit' }, label);
  const say = (words: string, at?: HTMLElement) => {
    problem.textContent = words;
    problem.hidden = false;
    at?.focus();
  };
  const send = async (event: Event) => {
    event.preventDefault();
    if (submit.disabled) return;
    if (form.username && !username.value.trim()) return say(s.missingName, username);
    if (!password.value) return say(s.missing, password);
    submit.disabled = true;
    submit.textContent = s.sending;
    problem.hidden = true;
    try {
      await form.send({ ...splitName(username.value), password: password.value });
      password.value = '';
      form.done();
    } catch (error) {
      say(form.explain(error) || s.failed);
      submit.disabled = false;
      submit.textContent = label;
    }
  };
  return h(
    'form',
    { class: 'card credential', 'data-testid': 'credential-form', 'data-source': form.source, 'data-refused': String(again), 'data-why': form.why, novalidate: true, submit: send, keydown: (event: KeyboardEvent) => event.stopPropagation() },
    h('span', { class: 'picture' }, icon('key', 32)),
    h('h1', {}, s.title(form.name)),
    h('p', again ? { role: 'alert', class: 'problem' } : {}, text),
    h(
      'div',
      { class: 'fields' },
      form.username ? h('label', {}, h('span', {}, s.username), username) : null,
      form.username ? h('p', { class: 'hint' }, s.usernameHint) : null,
      h('label', {}, h('span', {}, s.password), password),
    ),
    problem,
    h('div', { class: 'row' }, submit, h('a', { class: 'quiet', href: '/', 'data-testid': 'end-back' }, viewer.back)),
  );
}

function field(id: string, type: string, autocomplete: string): HTMLInputElement {
  return h('input', { type, autocomplete, autocapitalize: 'off', spellcheck: 'false', maxlength: '256', 'data-testid': id });
}
