// Web applications as people have them: JupyterLab, a wiki with users of its own, and one that tells what it was asked and does what pages should not.
import { type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, type Server, createServer } from 'node:http';
import { connect } from 'node:net';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Locator, type Page, expect } from '@playwright/test';
import { type House, until } from './house.ts';
import { fileOnHost } from './screen.ts';

/** Where `.ci/setup test` puts them. */
export const APPS = process.env.PORTCULLIS_APPS ?? join(homedir(), '.cache/portcullis-ci/apps');
export const HERE = resolve('../apps');

/** A page, or the application's frame in one. */
export type Place = Pick<Page, 'locator'>;

const listens = (port: number) =>
  new Promise<boolean>((done) => {
    const socket = connect(port, '127.0.0.1', () => (socket.destroy(), done(true)));
    socket.on('error', () => done(false));
  });

/** Programs of the installed applications, started in a house, and ended in order before it. */
export class Apps {
  readonly #running: ChildProcess[] = [];

  constructor(readonly house: House) {
    if (!existsSync(join(APPS, '.portcullis-lock'))) throw new Error(`no applications in ${APPS}: run .ci/setup test`);
  }

  /** Starts one, and waits until it listens. */
  async start(name: string, port: number, args: string[], env: NodeJS.ProcessEnv = {}): Promise<void> {
    const child = this.house.run(name, join(APPS, 'bin/python'), args, env);
    this.#running.push(child);
    await until(`${name} listens`, async () => {
      if (child.exitCode !== null) throw new Error(`${name} ended:\n${this.house.log(name)}`);
      return listens(port);
    });
  }

  /** JupyterLab with a notebook, in a folder of its own; nobody is asked who they are. */
  async jupyter(name: string, port: number): Promise<string> {
    const folder = join(this.house.dir, name, 'work');
    mkdirSync(folder, { recursive: true });
    const cell = { cell_type: 'code', id: 'one', source: '', metadata: {}, outputs: [], execution_count: null };
    const kernel = { name: 'python3', display_name: 'Python 3', language: 'python' };
    writeFileSync(join(folder, 'notes.ipynb'), JSON.stringify({ cells: [cell], metadata: { kernelspec: kernel }, nbformat: 4, nbformat_minor: 5 }));
    const config = join(this.house.dir, name, 'config');
    mkdirSync(join(config, 'labconfig'), { recursive: true });
    // It would ask whether it may fetch news.
    writeFileSync(join(config, 'labconfig/page_config.json'), '{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}');
    const shell = JSON.stringify({ shell_command: ['/bin/bash', '--norc'] });
    await this.start(
      name,
      port,
      ['-m', 'jupyterlab', '--no-browser', '--allow-root', '--ServerApp.ip=127.0.0.1', `--port=${port}`, '--ServerApp.port_retries=0', '--IdentityProvider.token=', `--ServerApp.root_dir=${folder}`, `--ServerApp.terminado_settings=${shell}`, '--LabApp.extension_manager=readonly'],
      { JUPYTER_CONFIG_DIR: config, JUPYTER_DATA_DIR: join(this.house.dir, name, 'data'), JUPYTER_RUNTIME_DIR: join(this.house.dir, name, 'run'), IPYTHONDIR: join(this.house.dir, name, 'ipython') },
    );
    return folder;
  }

  /** A wiki in which whoever wants to write has to register and sign in. */
  async wiki(port: number): Promise<void> {
    const folder = join(this.house.dir, 'wiki');
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
    // The pages are a repository of git's.
    writeFileSync(join(this.house.dir, '.gitconfig'), '[user]\nname = wiki\nemail = wiki@example.test\n[init]\ndefaultBranch = main\n');
    await this.#git(join(folder, 'pages'));
    await this.#serve('wiki', port, 'otterwiki.server:app', { OTTERWIKI_SETTINGS: join(folder, 'settings.cfg') });
  }

  /** What answers whatever clients of HTTP are tested with. */
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
    const [code] = await once(this.house.run('git', 'git', ['init', '-q', folder]), 'exit');
    if (code !== 0) throw new Error('git init failed');
  }

  /** Asks them to end, so that their own children end with them. */
  async close(): Promise<void> {
    for (const child of this.#running.filter((child) => child.exitCode === null && child.signalCode === null)) {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    }
  }
}

// ---- JupyterLab ----

/** Runs a line in the notebook's first cell once the kernel is ready, and returns what came of it. */
export async function runCell(page: Page, place: Place, line: string): Promise<string> {
  const cell = place.locator('.jp-Cell').first();
  const prompt = cell.locator('.jp-InputPrompt');
  await expect(place.locator('.jp-Notebook-ExecutionIndicator[data-status=idle]').first()).toBeVisible({ timeout: 30_000 });
  const before = await prompt.innerText();
  // Keys are lost while the notebook still settles, so it is asked again until it has done it.
  await until('the cell has run', async () => {
    await cell.locator('.cm-content').click();
    await page.keyboard.press('Control+A');
    await page.keyboard.insertText(line);
    await page.keyboard.press('Control+Enter');
    return until('', async () => /\d/.test(await prompt.innerText()) && (await prompt.innerText()) !== before, 5_000).catch(() => false);
  });
  return (await cell.locator('.jp-OutputArea-output').last().innerText()).trim();
}

/** Opens a terminal and types a command; its home is the house's folder. */
export async function terminal(page: Page, place: Place, command: string): Promise<void> {
  if ((await place.locator('.jp-Terminal').count()) === 0) {
    await page.keyboard.press('Control+Shift+L');
    await place.locator('.jp-LauncherCard[title="Start a new terminal session"]').click();
  }
  await place.locator('.jp-Terminal .xterm-screen').click();
  await page.keyboard.type(command, { delay: 5 });
  await page.keyboard.press('Enter');
}

/** Uploads a file by the button, and waits until the server has all of it. */
export async function upload(page: Page, place: Place, name: string, bytes: Buffer, folder: string): Promise<void> {
  const chooser = page.waitForEvent('filechooser');
  await place.locator('[data-jp-item-name=uploader] button, .jp-FileBrowser-toolbar jp-button[title^="Upload Files"], button[title^="Upload Files"]').first().click();
  await (await chooser).setFiles({ name, mimeType: 'application/octet-stream', buffer: bytes });
  await until(`${name} is on the server, whole`, () => existsSync(join(folder, name)) && readFileSync(join(folder, name)).equals(bytes));
}

/** Downloads a file by its context menu. */
export async function download(page: Page, place: Place, name: string): Promise<Buffer> {
  await fileListed(place, name).click({ button: 'right' });
  const file = page.waitForEvent('download');
  await place.locator('.lm-Menu-item[data-command="filebrowser:download"]').click();
  return readFileSync(await (await file).path());
}

export const fileListed = (place: Place, name: string): Locator => place.locator(`.jp-DirListing-item[title*="Name: ${name}"]`);

// ---- the wiki ----

export interface Author {
  email: string;
  name: string;
  password: string;
}

/** Registers by the wiki's own form, found by its links. */
export async function register(place: Place, author: Author): Promise<void> {
  await place.locator('a[href="/-/login"]').first().click();
  await place.locator('a[href="/-/register"]').first().click();
  await place.locator('#email').fill(author.email);
  await place.locator('#name').fill(author.name);
  await place.locator('#password1').fill(author.password);
  await place.locator('#password2').fill(author.password);
  await place.locator('input[type=submit][value=Register]').click();
}

/** Signs in by the form to which the wiki redirects who has registered; it redirects again, to its first page. */
export async function signInWiki(place: Place, author: Author): Promise<void> {
  // First what only this form has: the one before has a field for the address, too, and may still be there.
  await place.locator('#password').fill(author.password);
  await place.locator('#email').fill(author.email);
  await place.locator('input[type=submit][value=Login]').click();
  await expect(place.locator('a[href="/-/logout"]').first()).toBeAttached();
}

/** Makes a page in the wiki's editor. */
export async function writePage(page: Page, place: Place, name: string, text: string): Promise<void> {
  await place.locator('a[href="/-/create"]').first().click();
  await place.locator('input[name=pagename]').fill(name);
  await place.locator('input[value="Create and open in editor"]').click();
  await place.locator('.cm-content').click();
  await page.keyboard.press('Control+End');
  await page.keyboard.insertText(text);
  await place.locator('#save-page-btn').click();
  await place.locator('#commit-message').fill('A first plan');
  await place.locator('#saveform input[value=Save]').click();
}

// ---- one that tells what it was asked ----

export interface Asked {
  method: string;
  path: string;
  headers: IncomingMessage['headers'];
}

type Pages = Record<string, { body: string; headers?: Record<string, string | string[]> }>;

/** An application of the test's own. Serves the pages it is given, and keeps what it was asked. */
export class Witness {
  readonly asked: Asked[] = [];
  readonly #server: Server;

  private constructor(pages: Pages) {
    this.#server = createServer((request, response) => {
      const path = (request.url ?? '').split('?')[0]!;
      this.asked.push({ method: request.method ?? '', path: request.url ?? '', headers: request.headers });
      const page = pages[path];
      response.writeHead(page ? 200 : 404, { 'content-type': 'text/html; charset=utf-8', ...page?.headers });
      response.end(page?.body ?? 'nothing here');
    });
  }

  static async start(port: number, pages: Pages): Promise<Witness> {
    const witness = new Witness(pages);
    witness.#server.listen(port, '127.0.0.1');
    await once(witness.#server, 'listening');
    return witness;
  }

  /** The last request for a path. */
  last(path: string): Asked {
    const found = this.asked.findLast((asked) => asked.path.split('?')[0] === path);
    if (!found) throw new Error(`${path} was never asked for`);
    return found;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

export { fileOnHost };
