// Desktops that were there before the gateway: a Windows-like one that asks for NLA, and a VNC server with a password.
import { execFileSync } from 'node:child_process';
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { type House, until } from './house.ts';

export const NLA = { username: 'nlauser', password: 'Nla-Pass-1' };
export const VNC_PASSWORD = 'vncpass1';

const answers = (port: number) =>
  new Promise<boolean>((done) => {
    const socket = connect(port, '127.0.0.1', () => (socket.destroy(), done(true)));
    socket.on('error', () => done(false));
  });

/** An X display that nobody uses. */
function freeDisplay(): number {
  const taken = new Set(readdirSync('/tmp/.X11-unix'));
  for (let n = 90; n < 200; n += 1) if (!taken.has(`X${n}`)) return n;
  throw new Error('no free display');
}

/** Without a window manager, keys go to the window under the pointer, from the click on: no focus has to travel first. */
const terminal = ['-geometry', '100x30+20+20', '-fa', 'Monospace', '-fs', '11'];

/** A screen with a terminal, served by FreeRDP, which lets in whoever passes NLA. */
export class NlaDesktop {
  readonly #house: House;
  readonly #port: number;
  readonly display: string;
  #runs = 0;

  private constructor(house: House, port: number, display: number) {
    this.#house = house;
    this.#port = port;
    this.display = `:${display}`;
  }

  static async start(house: House, port: number): Promise<NlaDesktop> {
    const display = freeDisplay();
    const desktop = new NlaDesktop(house, port, display);
    const line = execFileSync('winpr-hash', ['-u', NLA.username, '-p', NLA.password, '-f', 'sam'], { encoding: 'utf8' });
    writeFileSync(join(house.dir, 'sam'), line, { mode: 0o600 });
    house.run('xvfb', 'Xvfb', [desktop.display, '-screen', '0', '1024x768x24', '-nolisten', 'tcp']);
    await until('the X server is up', () => readdirSync('/tmp/.X11-unix').includes(`X${display}`));
    house.run('nla-terminal', 'xterm', terminal, { DISPLAY: desktop.display });
    await desktop.serve();
    return desktop;
  }

  /** Serves it, each time with a certificate of its own. */
  async serve(): Promise<void> {
    this.#runs += 1;
    const home = join(this.#house.dir, `nla-${this.#runs}`);
    this.#house.run('shadow', 'freerdp-shadow-cli', [`/port:${this.#port}`, '/bind-address:127.0.0.1', '/sec:nla', '+auth', `/sam-file:${join(this.#house.dir, 'sam')}`], {
      DISPLAY: this.display,
      HOME: home,
      XDG_CONFIG_HOME: join(home, 'config'),
    });
    await until('the RDP server listens', () => answers(this.#port));
  }

  /** Installs it anew, as far as anybody outside can see. */
  async anew(): Promise<void> {
    await this.#house.stop('shadow');
    rmSync(join(this.#house.dir, `nla-${this.#runs}`), { recursive: true, force: true });
    await this.serve();
  }

  /** What is on the desktop's clipboard. */
  clipboard(): string {
    return clipboardOf(this.display);
  }
}

/** A VNC server with a password, and a terminal on it. */
export async function vncDesktop(house: House, port: number): Promise<string> {
  const display = freeDisplay();
  const file = join(house.dir, 'vnc-password');
  writeFileSync(file, execFileSync('tigervncpasswd', ['-f'], { input: `${VNC_PASSWORD}\n` }), { mode: 0o600 });
  house.run('xvnc', 'Xtigervnc', [`:${display}`, '-rfbport', String(port), '-interface', '127.0.0.1', '-localhost=1', '-SecurityTypes', 'VncAuth', '-PasswordFile', file, '-geometry', '1024x768', '-depth', '24', '-AlwaysShared', '-nolisten', 'tcp']);
  await until('the VNC server listens', () => answers(port));
  house.run('vnc-terminal', 'xterm', terminal, { DISPLAY: `:${display}` });
  return `:${display}`;
}

/** The text on a display's clipboard, empty when there is none. */
export function clipboardOf(display: string): string {
  try {
    return execFileSync('xclip', ['-selection', 'clipboard', '-o'], { env: { ...process.env, DISPLAY: display }, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], timeout: 30_000 });
  } catch {
    return '';
  }
}
