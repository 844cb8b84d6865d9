// Web applications for the tests: JupyterLab, a wiki with its own users, httpbin, a WebSocket echo, and one that records its requests.
import { type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, type Server, createServer } from 'node:http';
import { connect } from 'node:net';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Locator, type Page, expect } from '@playwright/test';
import { type Testbed, eventually } from './testbed.ts';
import { fileOnHost } from './screen.ts';

/** Where `.ci/setup test` puts them. */
export const APPS = process.env.PORTCULLIS_APPS ?? join(homedir(), '.cache/portcullis-ci/apps');
export const HERE = resolve('../apps');

/** A page, or the application's frame in it. */
export type Surface = Pick<Page, 'locator'>;

const listens = (port: number) =>
  new Promise<boolean>((done) => {
    const socket = connect(port, '127.0.0.1', () => (socket.destroy(), done(true)));
    socket.on('error', () => done(false));
  });

/** The installed applications, started in a testbed, and ended before it. */
export class Apps {
  readonly #running: ChildProcess[] = [];

  constructor(readonly testbed: Testbed) {
    if (!existsSync(join(APPS, '.portcullis-lock'))) throw new Error(`no applications in ${APPS}: run .ci/setup test`);
  }

  /** Starts one, and waits until it listens. */
  async start(name: string, port: number, args: string[], env: NodeJS.ProcessEnv = {}): Promise<void> {
    const child = this.testbed.spawn(name, join(APPS, 'bin/python'), args, env);
    this.#running.push(child);
    await eventually(`${name} listens`, async () => {
      if (child.exitCode !== null) throw new Error(`${name} ended:\n${this.testbed.log(name)}`);
      return listens(port);
    });
  }

  /** JupyterLab with a notebook, in its own folder, without authentication. */
  async jupyter(name: string, port: number): Promise<string> {
    const folder = join(this.testbed.dir, name, 'work');
    mkdirSync(folder, { recursive: true });
    const cell = { cell_type: 'code', id: 'one', source: '', metadata: {}, outputs: [], execution_count: null };
    const kernel = { name: 'python3', display_name: 'Python 3', language: 'python' };
    writeFileSync(join(folder, 'notes.ipynb'), JSON.stringify({ cells: [cell], metadata: { kernelspec: kernel }, nbformat: 4, nbformat_minor: 5 }));
    const config = join(this.testbed.dir, name, 'config');
    mkdirSync(join(config, 'labconfig'), { recursive: true });
    // Without this it asks whether it may fetch news.
    writeFileSync(join(config, 'labconfig/page_config.json'), '{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}');
    const shell = JSON.stringify({ shell_command: ['/bin/bash', '--norc'] });
    await this.start(
      name,
      port,
      ['-m', 'jupyterlab', '--no-browser', '--allow-root', '--ServerApp.ip=127.0.0.1', `--port=${port}`, '--ServerApp.port_retries=0', '--IdentityProvider.token=', `--ServerApp.root_dir=${folder}`, `--ServerApp.terminado_settings=${shell}`, '--LabApp.extension_manager=readonly'],
      { JUPYTER_CONFIG_DIR: config, JUPYTER_DATA_DIR: join(this.testbed.dir, name, 'data'), JUPYTER_RUNTIME_DIR: join(this.testbed.dir, name, 'run'), IPYTHONDIR: join(this.testbed.dir, name, 'ipython') },
    );
    return folder;
  }

  /** A wiki in which writing needs registration and sign-in. */
  async wiki(port: number): Promise<void> {
    const folder = join(this.testbed.dir, 'wiki');
    mkdirSync(join(folder, 'pages'), { recursive: true });
    const settings = {
      REPOSITORY: join(folder, 'pages'),
      SQLALCHEMY_DATABASE_URI: `sqlite:///${folder}/wiki.sqlite`,
      SECRET_KEY: randomBytes(16).toString('hex'),
      SITE_NAME: 'Team wiki',
      WRITE_ACCESS: 'REGISTERED',
      ATTACHMENT_ACCESS: 'REGISTERED',
    };
    const lines = Object.entries(settings).map(([name, value]) => `${name} = ${JSON.stringify(value)}\n`);
    writeFileSync(join(folder, 'settings.cfg'), `${lines.join('')}AUTO_APPROVAL = True\nEMAIL_NEEDS_CONFIRMATION = False\n`);
    // The wiki keeps its pages in a git repository.
    writeFileSync(join(this.testbed.dir, '.gitconfig'), '[user]\nname = wiki\nemail = wiki@example.test\n[init]\ndefaultBranch = main\n');
    await this.#git(join(folder, 'pages'));
    await this.#serve('wiki', port, 'otterwiki.server:app', { OTTERWIKI_SETTINGS: join(folder, 'settings.cfg') });
  }

  /** httpbin, which HTTP clients are tested with. */
  async httpbin(port: number): Promise<void> {
    await this.#serve('httpbin', port, 'httpbin:app');
  }

  /** Sends WebSocket messages back. */
  async echo(port: number): Promise<void> {
    await this.start('echo', port, [join(HERE, 'echo.py'), String(port)]);
  }

  async #serve(name: string, port: number, app: string, env: NodeJS.ProcessEnv = {}): Promise<void> {
    await this.start(name, port, ['-m', 'gunicorn', '-k', 'gthread', '--threads', '16', '--keep-alive', '30', '-b', `127.0.0.1:${port}`, '--log-level', 'warning', app], env);
  }

  async #git(folder: string): Promise<void> {
    const [code] = await once(this.testbed.spawn('git', 'git', ['init', '-q', folder]), 'exit');
    if (code !== 0) throw new Error('git init failed');
  }

  /** Sends SIGTERM, so that their child processes end with them. */
  async close(): Promise<void> {
    for (const child of this.#running.filter((child) => child.exitCode === null && child.signalCode === null)) {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    }
  }
}

// ---- JupyterLab ----

/** Runs a line in the notebook's first cell once the kernel is ready, and returns its output. */
export async function runCell(page: Page, surface: Surface, line: string): Promise<string> {
  const cell = surface.locator('.jp-Cell').first();
  const prompt = cell.locator('.jp-InputPrompt');
  await expect(surface.locator('.jp-Notebook-ExecutionIndicator[data-status=idle]').first()).toBeVisible({ timeout: 30_000 });
  const before = await prompt.innerText();
  // Keys are lost while the notebook still initializes, so this is repeated until the cell has run.
  await eventually('the cell has run', async () => {
    await cell.locator('.cm-content').click();
    await page.keyboard.press('Control+A');
    await page.keyboard.insertText(line);
    await page.keyboard.press('Control+Enter');
    return eventually('', async () => /\d/.test(await prompt.innerText()) && (await prompt.innerText()) !== before, 5_000).catch(() => false);
  });
  return (await cell.locator('.jp-OutputArea-output').last().innerText()).trim();
}

/** Opens a terminal and runs a command that creates a file; its home folder is the testbed's folder. */
export async function terminal(page: Page, surface: Surface, command: string, file: string): Promise<void> {
  const card = surface.locator('.jp-LauncherCard[title="Start a new terminal session"]');
  await expect(surface.locator('.jp-Notebook-ExecutionIndicator[data-status=idle]').first()).toBeVisible();
  const tab = surface.locator('.lm-DockPanel-tabBar .lm-TabBar-tab', { hasText: /^Terminal/ }).first();
  const launcher = surface.locator('.lm-DockPanel-tabBar .lm-TabBar-tab', { hasText: /^Launcher/ }).first();
  // While JupyterLab still initializes, keys are lost and the notebook takes the front again, so each step is repeated until the terminal is there.
  const openTerminal = async () => {
    if (await launcher.isVisible()) {
      await launcher.click({ timeout: 5_000 });
    } else {
      await surface.locator('.jp-Cell').first().locator('.cm-content').click({ timeout: 5_000 });
      // The shortcut belongs to command mode.
      await page.keyboard.press('Escape');
      await page.keyboard.press('Control+Shift+L');
    }
    await card.click({ timeout: 5_000 });
    await tab.waitFor({ timeout: 10_000 });
  };
  await eventually('a terminal is open', async () => (await tab.isVisible()) || openTerminal().then(() => true, () => false), 180_000);
  const screen = surface.locator('.jp-Terminal .xterm-screen >> visible=true').first();
  // A notebook that still initializes takes the front and the focus again, so this is repeated until the command has run.
  const run = async () => {
    await tab.click({ timeout: 5_000 });
    await screen.click({ timeout: 5_000 });
    // Ends a line that an earlier attempt left without its last key.
    await page.keyboard.press('Enter');
    await page.keyboard.type(command, { delay: 5 });
    await page.keyboard.press('Enter');
    await eventually('the file is there', () => existsSync(file), 5_000);
  };
  await eventually('the command has run', () => run().then(() => true, () => false), 180_000);
}

/** Uploads a file by the button, and waits until the server has all of it. */
export async function upload(page: Page, surface: Surface, name: string, bytes: Buffer, folder: string): Promise<void> {
  const chooser = page.waitForEvent('filechooser');
  await surface.locator('[data-jp-item-name=uploader] button, .jp-FileBrowser-toolbar jp-button[title^="Upload Files"], button[title^="Upload Files"]').first().click();
  await (await chooser).setFiles({ name, mimeType: 'application/octet-stream', buffer: bytes });
  await eventually(`${name} is on the server, whole`, () => existsSync(join(folder, name)) && readFileSync(join(folder, name)).equals(bytes));
}

/** Downloads a file by its context menu. */
export async function download(page: Page, surface: Surface, name: string): Promise<Buffer> {
  await fileListed(surface, name).click({ button: 'right' });
  const file = page.waitForEvent('download');
  await surface.locator('.lm-Menu-item[data-command="filebrowser:download"]').click();
  return readFileSync(await (await file).path());
}

export const fileListed = (surface: Surface, name: string): Locator => surface.locator(`.jp-DirListing-item[title*="Name: ${name}"]`);

// ---- the wiki ----

export interface WikiUser {
  email: string;
  name: string;
  password: string;
}

/** Registers by the wiki's own form, found by its links. */
export async function register(surface: Surface, author: WikiUser): Promise<void> {
  await surface.locator('a[href="/-/login"]').first().click();
  await surface.locator('a[href="/-/register"]').first().click();
  await surface.locator('#email').fill(author.email);
  await surface.locator('#name').fill(author.name);
  await surface.locator('#password1').fill(author.password);
  await surface.locator('#password2').fill(author.password);
  await surface.locator('input[type=submit][value=Register]').click();
}

/** Signs in with the form to which the wiki redirects after registration; it redirects to its first page. */
export async function signInWiki(surface: Surface, author: WikiUser): Promise<void> {
  // The password field first: the registration form, which may still be shown, has an address field, too.
  await surface.locator('#password').fill(author.password);
  await surface.locator('#email').fill(author.email);
  await surface.locator('input[type=submit][value=Login]').click();
  await expect(surface.locator('a[href="/-/logout"]').first()).toBeAttached();
}

/** Makes a page in the wiki's editor. */
export async function writePage(page: Page, surface: Surface, name: string, text: string): Promise<void> {
  await surface.locator('a[href="/-/create"]').first().click();
  await surface.locator('input[name=pagename]').fill(name);
  await surface.locator('input[value="Create and open in editor"]').click();
  await surface.locator('.cm-content').click();
  await page.keyboard.press('Control+End');
  await page.keyboard.insertText(text);
  await surface.locator('#save-page-btn').click();
  await surface.locator('#commit-message').fill('A first plan');
  await surface.locator('#saveform input[value=Save]').click();
}

// ---- an application that records its requests ----

export interface RecordedRequest {
  method: string;
  path: string;
  headers: IncomingMessage['headers'];
}

type Pages = Record<string, { body: string; headers?: Record<string, string | string[]> }>;

/** Serves the given pages, and records requests. */
export class RecordingApp {
  readonly requests: RecordedRequest[] = [];
  readonly #server: Server;

  private constructor(pages: Pages) {
    this.#server = createServer((request, response) => {
      const path = (request.url ?? '').split('?')[0]!;
      this.requests.push({ method: request.method ?? '', path: request.url ?? '', headers: request.headers });
      const page = pages[path];
      response.writeHead(page ? 200 : 404, { 'content-type': 'text/html; charset=utf-8', ...page?.headers });
      response.end(page?.body ?? 'nothing here');
    });
  }

  static async start(port: number, pages: Pages): Promise<RecordingApp> {
    const recorder = new RecordingApp(pages);
    recorder.#server.listen(port, '127.0.0.1');
    await once(recorder.#server, 'listening');
    return recorder;
  }

  /** The last request for a path. */
  last(path: string): RecordedRequest {
    const found = this.requests.findLast((request) => request.path.split('?')[0] === path);
    if (!found) throw new Error(`${path} was never requested`);
    return found;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

export { fileOnHost };
