// Takes a picture of every screen in its states, two sizes, light and dark, and runs axe on each.
//   npm run build && npm run shots [-- part-of-a-name]
// Pictures go to $SHOTS (default: a folder "shots" in the system's temporary folder). Exit 1 when axe, the console or
// the CSP complains.
import { chromium } from 'playwright-core';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createRequire } from 'node:module';
import { mock, SESSION } from './mock.mjs';

const out = process.env.SHOTS ?? join(tmpdir(), 'shots');
mkdirSync(out, { recursive: true });
const only = process.argv[2];
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const children = [];

/** A real desktop to look at, when the programs are there. */
async function desktop() {
  const display = 60 + Math.floor(Math.random() * 30);
  const port = 5900 + display;
  const start = (command, args) => {
    const child = spawn(command, args, { env: { ...process.env, DISPLAY: `:${display}` }, stdio: 'ignore' });
    child.on('error', () => {});
    children.push(child);
  };
  start('Xtigervnc', [`:${display}`, '-rfbport', String(port), '-interface', '127.0.0.1', '-localhost=1', '-SecurityTypes', 'None', '-geometry', '1280x800', '-depth', '24', '-AlwaysShared', '-nolisten', 'tcp']);
  await new Promise((done) => setTimeout(done, 1500));
  start('openbox', []);
  start('xterm', ['-geometry', '80x24+80+90', '-fa', 'Monospace', '-fs', '11', '-e', 'sh -c "ls -la /usr; uname -a; exec sh"']);
  await new Promise((done) => setTimeout(done, 800));
  return port;
}

/** An RDP server without sign-in, to look at the same desktop through. */
function rdpServer(display) {
  const port = 3400 + display;
  const child = spawn('freerdp-shadow-cli', [`/port:${port}`, '/bind-address:127.0.0.1', '/sec:tls', '-auth'], { env: { ...process.env, DISPLAY: `:${display}` }, stdio: 'ignore' });
  child.on('error', () => {});
  children.push(child);
  return port;
}

const vncPort = await desktop();
const rdpPort = rdpServer(vncPort - 5900);
await new Promise((done) => setTimeout(done, 1500));
const api = await mock({ vncPort, rdpPort });
const profile = mkdtempSync(join(tmpdir(), 'shots-profile-'));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const id = (name) => `[data-testid="${name}"]`;
let problems = 0;

const signInTo = async (page, path = '/signin') => {
  await page.goto(api.url + path);
  await page.fill(id('signin-email'), 'maya.lind@example.com');
  await page.fill(id('signin-password'), 'something long');
  await page.click(id('signin-submit'));
};
const viewer = async (page) => {
  await page.goto(`${api.url}/viewer/${SESSION}`);
  await page.waitForSelector(`${id('viewer-state')}[data-state=connected]`, { state: 'attached' });
  await page.waitForTimeout(700);
};
const seenHint = (page) => page.addInitScript(() => localStorage.setItem('portcullis.viewer.hint', 'seen'));
const openBar = async (page) => {
  await page.click(id('toolbar-handle'));
  await page.waitForTimeout(300);
};

const soon = (minutes) => new Date(Date.now() + minutes * 60_000).toISOString();

/** name -> [state, act]; console screens are taken in both themes, the viewer (always dark) once. */
const RDP = { workspace_type: 'rdp', workspace_name: 'Windows Finance', workspace_id: 'ws-finance' };
const scenes = {
  'signin': [{ me: null }, (page) => page.goto(`${api.url}/signin`)],
  'signin-wrong': [{ me: null }, async (page) => { await page.goto(`${api.url}/signin`); await page.fill(id('signin-email'), 'maya.lind@example.com'); await page.fill(id('signin-password'), 'wrong'); await page.click(id('signin-submit')); await page.waitForSelector(id('signin-error')); }],
  'signin-failing': [{ me: null, scene: 'failing' }, async (page) => { await signInTo(page); await page.waitForSelector(id('problem')); }],
  'code': [{ me: null }, async (page) => { await signInTo(page); await page.waitForSelector(id('code-input')); await page.keyboard.type('123'); }],
  'code-wrong': [{ me: null }, async (page) => { await signInTo(page); await page.fill(id('code-input'), '000000'); await page.waitForSelector(id('signin-error')); }],
  'enrol': [{ me: null, enrol: true }, async (page) => { await signInTo(page); await page.waitForSelector(id('enrol-qr')); }],
  'portal': [{ me: 'member' }, async (page) => { await page.goto(api.url); await page.waitForSelector(id('tile-ws-linux-desktop')); }],
  'portal-offline': [{ me: 'admin', hosts: false, running: false }, async (page) => { await page.goto(api.url); await page.waitForSelector(id('tile-ws-linux-desktop')); }],
  'portal-launching': [{ me: 'member' }, async (page) => { await page.goto(api.url); await page.waitForSelector(id('launch-ws-developer')); api.state.delay = 5000; await page.click(id('launch-ws-developer')); await page.waitForTimeout(2200); }],
  'portal-empty': [{ me: 'admin', scene: 'empty' }, async (page) => { await page.goto(api.url); await page.waitForSelector(id('state-empty')); }],
  'portal-failing': [{ me: 'member', scene: 'failing' }, async (page) => { await page.goto(api.url); await page.waitForSelector(id('state-error')); }],
  'portal-loading': [{ me: 'member', delay: 4000 }, async (page) => { await page.goto(api.url); await page.waitForSelector(id('state-loading')); }],
  'portal-stop': [{ me: 'member' }, async (page) => { await page.goto(api.url); await page.click(id('stop-ws-linux-desktop')); await page.waitForTimeout(300); }],
  'portal-bare': [{ me: 'member', bare: true, running: false }, async (page) => { await page.goto(api.url); await page.waitForSelector(id('add-factor-ws-developer')); }],
  'account': [{ me: 'member' }, async (page) => { await page.goto(`${api.url}/account`); await page.waitForSelector(id('login-row')); }],
  'account-bare': [{ me: 'member', bare: true }, async (page) => { await page.goto(`${api.url}/account`); await page.waitForSelector(id('login-row')); }],
  'account-enrol': [{ me: 'member', bare: true }, async (page) => { await page.goto(`${api.url}/account`); await page.click(id('account-add-factor')); await page.fill(id('code-input'), '000000'); await page.waitForTimeout(400); }],
  'account-end': [{ me: 'member' }, async (page) => { await page.goto(`${api.url}/account`); await page.click(id('login-end')); await page.waitForTimeout(300); }],
  'sessions': [{ me: 'member' }, async (page) => { await page.goto(`${api.url}/sessions`); await page.waitForSelector(id('past-session')); }],
  'sessions-empty': [{ me: 'member', scene: 'empty' }, async (page) => { await page.goto(`${api.url}/sessions`); await page.waitForSelector(id('state-empty')); }],
  'sessions-loading': [{ me: 'member', delay: 4000 }, async (page) => { await page.goto(`${api.url}/sessions`); await page.waitForSelector(id('state-loading')); }],
  'live': [{ me: 'admin' }, async (page) => { await page.goto(`${api.url}/sessions?scope=all`); await page.waitForSelector(id('live-session')); }],
  'audit': [{ me: 'admin' }, async (page) => { await page.goto(`${api.url}/audit`); await page.waitForSelector(id('audit-row')); }],
  'audit-verified': [{ me: 'security' }, async (page) => { await page.goto(`${api.url}/audit?outcome=denied&session_id=${SESSION}`); await page.waitForSelector(id('audit-row')); await page.click(id('audit-verify')); await page.waitForSelector(id('audit-verdict')); }],
  'audit-detail': [{ me: 'admin' }, async (page) => { await page.goto(`${api.url}/audit`); await page.click(`${id('audit-row')}[data-seq="1039"]`); await page.waitForTimeout(400); }],
  'audit-empty': [{ me: 'admin', scene: 'empty' }, async (page) => { await page.goto(`${api.url}/audit?q=nothing`); await page.waitForSelector(id('state-empty')); }],
  'audit-failing': [{ me: 'admin', scene: 'failing' }, async (page) => { await page.goto(`${api.url}/audit`); await page.waitForSelector(id('state-error')); }],
  'tampered': [{ me: 'admin', scene: 'tampered' }, async (page) => { await page.goto(`${api.url}/admin/users`); await page.waitForSelector(id('tampered')); }],
  'tampered-member': [{ me: 'member', scene: 'tampered', running: false }, async (page) => { await page.goto(api.url); await page.click(id('launch-ws-developer')); await page.waitForSelector(id('toast')); }],
  'workspaces': [{ me: 'admin' }, async (page) => { await page.goto(`${api.url}/admin/workspaces`); await page.waitForSelector(id('workspace-row')); }],
  'workspaces-new': [{ me: 'admin' }, async (page) => { await page.goto(`${api.url}/admin/workspaces?new=1`); await page.waitForSelector(id('workspace-form')); await page.waitForTimeout(300); }],
  'workspaces-rdp': [{ me: 'admin' }, async (page) => { await page.goto(`${api.url}/admin/workspaces?new=1`); await page.selectOption(id('workspace-type'), 'rdp'); await page.click(id('workspace-submit')); await page.selectOption(id('workspace-trust'), 'authority'); await page.waitForTimeout(300); await page.locator(id('workspace-where')).scrollIntoViewIfNeeded(); }],
  'workspaces-web': [{ me: 'admin' }, async (page) => { await page.goto(`${api.url}/admin/workspaces?new=1`); await page.selectOption(id('workspace-type'), 'html5'); await page.waitForTimeout(300); await page.selectOption(id('workspace-host'), { index: 1 }); await page.selectOption(id('web-scheme'), 'https'); await page.selectOption(id('web-sign-in'), 'header'); await page.click(id('workspace-submit')); await page.waitForTimeout(300); await page.locator(id('workspace-where')).scrollIntoViewIfNeeded(); }],
  'workspaces-web-edit': [{ me: 'admin' }, async (page) => { await page.goto(`${api.url}/admin/workspaces?edit=ws-wiki`); await page.waitForSelector(id('web-methods')); await page.waitForTimeout(300); await page.locator(id('web-methods')).scrollIntoViewIfNeeded(); }],
  'requests': [{ me: 'security' }, async (page) => { await page.goto(`${api.url}/requests?session=7d5f2c1e-4a0b-4c6d-9e2f-000000000703`); await page.waitForSelector(id('request-row')); await page.waitForTimeout(300); }],
  'requests-empty': [{ me: 'admin', scene: 'empty' }, async (page) => { await page.goto(`${api.url}/requests?session=7d5f2c1e-4a0b-4c6d-9e2f-000000000703&status=5xx`); await page.waitForSelector(id('state-empty')); }],
  'requests-failing': [{ me: 'admin', scene: 'failing' }, async (page) => { await page.goto(`${api.url}/requests?session=7d5f2c1e-4a0b-4c6d-9e2f-000000000703`); await page.waitForSelector(id('state-error')); }],
  'requests-loading': [{ me: 'admin', delay: 4000 }, async (page) => { await page.goto(`${api.url}/requests?session=7d5f2c1e-4a0b-4c6d-9e2f-000000000703`); await page.waitForSelector(id('state-loading')); }],
  'requests-none': [{ me: 'admin' }, async (page) => { await page.goto(`${api.url}/requests`); await page.waitForSelector(id('state-empty')); }],
  'workspaces-edit': [{ me: 'admin' }, async (page) => { await page.goto(`${api.url}/admin/workspaces?edit=ws-finance`); await page.waitForSelector(id('workspace-form')); await page.locator(id('certificate-review')).scrollIntoViewIfNeeded(); await page.waitForTimeout(300); }],
  'workspaces-certificate': [{ me: 'admin' }, async (page) => { await page.goto(`${api.url}/admin/workspaces?certificate=ws-finance`); await page.waitForSelector(id('certificate-dialog')); await page.waitForTimeout(300); }],
  'workspaces-delete': [{ me: 'admin' }, async (page) => { await page.goto(`${api.url}/admin/workspaces`); await page.click(`${id('workspace-menu')} >> nth=0`); await page.click(id('workspace-delete')); await page.waitForTimeout(300); }],
  'users': [{ me: 'admin' }, async (page) => { await page.goto(`${api.url}/admin/users`); await page.waitForSelector(id('user-row')); }],
  'users-unprotected': [{ me: 'security' }, async (page) => { await page.goto(`${api.url}/admin/users?factor=off`); await page.waitForSelector(id('user-row')); }],
  'users-menu': [{ me: 'admin' }, async (page) => { await page.goto(`${api.url}/admin/users`); await page.click(`${id('user-actions')} >> nth=2`); await page.waitForTimeout(300); }],
  'users-new': [{ me: 'admin' }, async (page) => { await page.goto(`${api.url}/admin/users`); await page.click(id('user-create')); await page.click(id('user-submit')); await page.waitForTimeout(300); }],
  'hosts': [{ me: 'admin' }, async (page) => { await page.goto(`${api.url}/admin/hosts`); await page.waitForSelector(id('host-row')); }],
  'hosts-peer': [{ me: 'admin' }, async (page) => { await page.goto(`${api.url}/admin/hosts`); await page.click(id('host-add')); await page.check(id('host-kind-peer'), { force: true }); await page.click(id('peer-submit')); await page.waitForTimeout(300); }],
  'hosts-config': [{ me: 'admin' }, async (page) => { await page.goto(`${api.url}/admin/hosts`); await page.click(id('host-config-open')); await page.click(id('host-config-show')); await page.waitForSelector(id('host-config-qr')); await page.waitForTimeout(300); }],
  'hosts-empty': [{ me: 'admin', scene: 'empty' }, async (page) => { await page.goto(`${api.url}/admin/hosts`); await page.waitForSelector(id('state-empty')); }],
  'hosts-token': [{ me: 'admin' }, async (page) => { await page.goto(`${api.url}/admin/hosts`); await page.click(id('host-add')); await page.click(id('host-token')); await page.waitForSelector(id('host-command')); }],
  'menu': [{ me: 'admin' }, async (page) => { await page.goto(api.url); await page.waitForSelector(id('tile-ws-linux-desktop')); if (await page.isVisible(id('nav-toggle'))) await page.click(id('nav-toggle')); await page.waitForTimeout(300); await page.click(id('user-menu')); await page.waitForTimeout(200); }],
  'not-found': [{ me: 'member' }, async (page) => { await page.goto(`${api.url}/audit`); await page.waitForSelector(id('not-found')); }],
  'viewer-hint': [{ me: 'member' }, viewer],
  'viewer-connected': [{ me: 'member' }, async (page) => { await seenHint(page); await viewer(page); }],
  'viewer-toolbar': [{ me: 'member' }, async (page) => { await seenHint(page); await viewer(page); await openBar(page); }],
  'viewer-ends': [{ me: 'member', session: { expires_at: soon(8.5), extendable_until: soon(240) } }, async (page) => { await seenHint(page); await viewer(page); await page.waitForSelector(id('time-left')); }],
  'viewer-ends-open': [{ me: 'member', session: { expires_at: soon(8.5), extendable_until: soon(240) } }, async (page) => { await seenHint(page); await viewer(page); await openBar(page); }],
  'viewer-ends-urgent': [{ me: 'member', session: { ...RDP, expires_at: soon(1.5), extendable_until: null } }, async (page) => { await seenHint(page); await viewer(page); await page.waitForSelector(id('time-left')); }],
  'viewer-idle': [{ me: 'member', session: { expires_at: soon(90), idle_ends_at: soon(1.8), idle_timeout_seconds: 1800 } }, async (page) => { await seenHint(page); await viewer(page); await page.waitForSelector(id('time-left')); }],
  'viewer-clipboard': [{ me: 'member' }, async (page) => { await seenHint(page); await viewer(page); await openBar(page); await page.click(id('toolbar-clipboard')); await page.fill(id('clipboard-text'), 'Text from this computer'); await page.click(id('clipboard-send')); }],
  'viewer-keys': [{ me: 'member' }, async (page) => { await seenHint(page); await viewer(page); await openBar(page); await page.click(id('toolbar-keys')); }],
  'viewer-row': [{ me: 'member', touch: true }, async (page) => { await seenHint(page); await viewer(page); await page.click(id('touch-keyboard-button')); await page.click(id('modifier-ctrl')); await page.waitForTimeout(200); }],
  'viewer-settings': [{ me: 'member' }, async (page) => { await seenHint(page); await viewer(page); await openBar(page); await page.click(id('toolbar-settings')); }],
  'viewer-rdp': [{ me: 'member', session: RDP }, async (page) => { await seenHint(page); await viewer(page); }],
  'viewer-rdp-keys': [{ me: 'member', session: RDP }, async (page) => { await seenHint(page); await viewer(page); await openBar(page); await page.click(id('toolbar-keys')); }],
  'viewer-rules': [{ me: 'member', session: { ...RDP, policy: { clipboard: 'none', files: false, read_only: true } } }, async (page) => { await seenHint(page); await viewer(page); await openBar(page); }],
  'viewer-clipboard-in': [{ me: 'member', session: { ...RDP, policy: { clipboard: 'in', files: false, read_only: false } } }, async (page) => { await seenHint(page); await viewer(page); await openBar(page); await page.click(id('toolbar-clipboard')); }],
  'viewer-ask': [{ me: 'member', session: RDP, streamClose: [4005, 'ask'] }, async (page) => { await page.goto(`${api.url}/viewer/${SESSION}`); await page.waitForSelector(id('credential-form')); }],
  'viewer-ask-again': [{ me: 'member', session: RDP, streamClose: [4006, 'user'] }, async (page) => { await page.goto(`${api.url}/viewer/${SESSION}`); await page.waitForSelector(id('credential-form')); await page.fill(id('credential-username'), 'CORP\\maya'); await page.click(id('credential-submit')); await page.waitForTimeout(200); }],
  'viewer-certificate': [{ me: 'member', session: RDP, streamClose: [4004, 'certificate_changed'] }, async (page) => { await page.goto(`${api.url}/viewer/${SESSION}`); await page.waitForSelector(id('end-title')); }],
  'viewer-certificate-admin': [{ me: 'admin', session: RDP, streamClose: [4004, 'certificate_changed'] }, async (page) => { await page.goto(`${api.url}/viewer/${SESSION}`); await page.waitForSelector(id('end-admin')); }],
  'viewer-refused': [{ me: 'member', session: RDP, streamClose: [4006, 'workspace'] }, async (page) => { await page.goto(`${api.url}/viewer/${SESSION}`); await page.waitForSelector(id('end-title')); }],
  'viewer-host-leg': [{ me: 'member', session: RDP, streamClose: [4002, 'host: no handshake for 20 s'] }, async (page) => { await page.goto(`${api.url}/viewer/${SESSION}`); await page.waitForTimeout(2500); }],
  'viewer-left': [{ me: 'member', session: RDP, streamClose: [4007, 'policy'] }, async (page) => { await page.goto(`${api.url}/viewer/${SESSION}`); await page.waitForSelector(id('end-title')); }],
  'viewer-disconnect': [{ me: 'member' }, async (page) => { await seenHint(page); await viewer(page); await openBar(page); await page.click(id('toolbar-disconnect')); await page.waitForTimeout(300); }],
  'viewer-ended-by-me': [{ me: 'member' }, async (page) => { await seenHint(page); await viewer(page); await openBar(page); await page.click(id('toolbar-disconnect')); await page.click(id('confirm-disconnect')); await page.waitForSelector(id('end-facts')); }],
  'viewer-reconnecting': [{ me: 'member' }, async (page) => { await seenHint(page); await viewer(page); api.state.refuseStream = true; for (const socket of api.state.sockets) socket.terminate(); await page.waitForTimeout(3300); }],
  'viewer-ended-admin': [{ me: 'member' }, async (page) => { await seenHint(page); await viewer(page); api.state.ended = 'admin_stopped'; for (const socket of api.state.sockets) socket.close(4000, 'admin_stopped'); await page.waitForSelector(id('end-title')); await page.waitForTimeout(300); }],
  'viewer-signed-out': [{ me: 'member' }, async (page) => { await seenHint(page); await viewer(page); for (const socket of api.state.sockets) socket.close(4001, 'signed_out'); await page.waitForSelector(id('end-title')); }],
  'viewer-crowded': [{ me: 'member', streamClose: [4003] }, async (page) => { await page.goto(`${api.url}/viewer/${SESSION}`); await page.waitForSelector(id('end-title')); }],
  'viewer-missing': [{ me: 'member' }, async (page) => { await page.goto(`${api.url}/viewer/0000`); await page.waitForSelector(id('end-title')); }],
  'viewer-opening': [{ me: 'member', refuseStream: true }, async (page) => { await page.goto(`${api.url}/viewer/${SESSION}`); await page.waitForTimeout(2500); }],
};

const sizes = { wide: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } };
for (const [name, [state, act]] of Object.entries(scenes)) {
  if (only && !name.includes(only)) continue;
  for (const [size, viewport] of Object.entries(sizes)) {
    for (const theme of name.startsWith('viewer') ? ['dark'] : ['light', 'dark']) {
      Object.assign(api.state, { scene: 'full', me: null, delay: 0, hosts: true, ended: null, enrol: false, running: true, streamClose: null, refuseStream: false, bare: false, session: null, touch: false }, state);
      const page = await browser.newPage();
      // What makes a page believe in a finger.
      if (state.touch) await (await page.context().newCDPSession(page)).send('Emulation.setTouchEmulationEnabled', { enabled: true, maxTouchPoints: 5 });
      const label = `${name}.${size}.${theme}`;
      const complain = (what) => {
        problems += 1;
        console.log(`${label}: ${what}`);
      };
      page.on('console', (message) => {
        if (message.type() === 'error' && !/status of (401|404|429|500|503)|WebSocket connection|Failed when connecting/.test(message.text())) complain(message.text());
      });
      page.on('pageerror', (error) => complain(error.message));
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme: theme });
      await page.addInitScript(() => localStorage.clear());
      try {
        await act(page);
        await page.waitForTimeout(250);
        await page.screenshot({ path: join(out, `${label}.png`) });
        // Through the debugger, so the page's own CSP stays in force for the page.
        const found = await page.evaluate(`${axe};axe.run(document,{runOnly:['wcag2a','wcag2aa','wcag21a','wcag21aa','wcag22aa','best-practice']})`);
        for (const { id: rule, help, nodes } of found.violations) complain(`axe ${rule}: ${help} (${nodes.map((node) => `${node.html.slice(0, 140)} ${node.any[0]?.message ?? ''}`).slice(0, 3).join(' | ')})`);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        if (wide > 0) complain(`scrolls sideways by ${wide} px`);
      } catch (error) {
        complain(error.message.split('\n').slice(0, 3).join(' '));
        await page.screenshot({ path: join(out, `${label}.png`) }).catch(() => {});
      }
      await page.close();
    }
  }
}
await browser.close();
api.end();
for (const child of children.reverse()) child.kill();
rmSync(profile, { recursive: true, force: true });
console.log(problems === 0 ? 'No complaints.' : `${problems} complaints.`);
process.exit(problems === 0 ? 0 : 1);
