// Desktop servers beside the host: an RDP server that requires NLA, an RDP server that disconnects with a reason, and a VNC server with a password.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { type Socket, connect, createServer } from 'node:net';
import { once } from 'node:events';
import { TLSSocket, createSecureContext, connect as connectTls } from 'node:tls';
import { join } from 'node:path';
import { type Testbed, eventually } from './testbed.ts';

export const NLA = { username: 'nlauser', password: 'Nla-Pass-1' };
export const VNC_PASSWORD = 'vncpass1';

const isListening = (port: number) =>
  new Promise<boolean>((done) => {
    const socket = connect(port, '127.0.0.1', () => (socket.destroy(), done(true)));
    socket.on('error', () => done(false));
  });

/** An unused X display. A killed server leaves its socket and its lock, which names its process. */
function freeDisplay(): number {
  for (let n = 90; n < 200; n += 1) {
    const lock = `/tmp/.X${n}-lock`;
    const socket = `/tmp/.X11-unix/X${n}`;
    if (existsSync(lock) ? existsSync(`/proc/${readFileSync(lock, 'utf8').trim()}`) : existsSync(socket)) continue;
    rmSync(lock, { force: true });
    rmSync(socket, { force: true });
    return n;
  }
  throw new Error('no free display');
}

/** Without a window manager, keys go to the window under the pointer from the click on: no focus change is involved. */
const terminal = ['-geometry', '100x30+20+20', '-fa', 'Monospace', '-fs', '11'];

/** A screen with a terminal, served by FreeRDP with NLA. */
export class NlaDesktop {
  readonly #testbed: Testbed;
  readonly #port: number;
  readonly display: string;
  #runs = 0;

  private constructor(testbed: Testbed, port: number, display: number) {
    this.#testbed = testbed;
    this.#port = port;
    this.display = `:${display}`;
  }

  static async start(testbed: Testbed, port: number): Promise<NlaDesktop> {
    const display = freeDisplay();
    const desktop = new NlaDesktop(testbed, port, display);
    const line = execFileSync('winpr-hash', ['-u', NLA.username, '-p', NLA.password, '-f', 'sam'], { encoding: 'utf8' });
    writeFileSync(join(testbed.dir, 'sam'), line, { mode: 0o600 });
    testbed.spawn('xvfb', 'Xvfb', [desktop.display, '-screen', '0', '1024x768x24', '-nolisten', 'tcp']);
    await eventually('the X server is up', () => readdirSync('/tmp/.X11-unix').includes(`X${display}`));
    testbed.spawn('nla-terminal', 'xterm', terminal, { DISPLAY: desktop.display });
    await desktop.serve();
    return desktop;
  }

  /** Serves it, each time with a new certificate. */
  async serve(): Promise<void> {
    this.#runs += 1;
    const home = join(this.#testbed.dir, `nla-${this.#runs}`);
    this.#testbed.spawn('shadow', 'freerdp-shadow-cli', [`/port:${this.#port}`, '/bind-address:127.0.0.1', '/sec:nla', '+auth', `/sam-file:${join(this.#testbed.dir, 'sam')}`], {
      DISPLAY: this.display,
      HOME: home,
      XDG_CONFIG_HOME: join(home, 'config'),
    });
    await eventually('the RDP server listens', () => isListening(this.#port));
  }

  /** Restarts the server with a new certificate, as after a reinstallation. */
  async reinstall(): Promise<void> {
    await this.#testbed.stop('shadow');
    rmSync(join(this.#testbed.dir, `nla-${this.#runs}`), { recursive: true, force: true });
    await this.serve();
  }

  /** What is on the desktop's clipboard. */
  clipboard(): string {
    return clipboardOf(this.display);
  }
}

/** Reads one TPKT packet (RFC 1006). */
async function readTpkt(socket: Socket): Promise<Buffer> {
  for (;;) {
    const head: Buffer | null = socket.read(4);
    if (head) {
      for (;;) {
        const rest: Buffer | null = socket.read(head.readUInt16BE(2) - 4);
        if (rest) return Buffer.concat([head, rest]);
        await once(socket, 'readable');
      }
    }
    await once(socket, 'readable');
  }
}

/** A proxy before a desktop that can end its connections with a reason, as Windows does; no RDP server of Debian's can. */
export class DisconnectingProxy {
  readonly #streams = new Set<TLSSocket>();

  private constructor(
    readonly port: number,
    readonly close: () => void,
  ) {}

  /** In front of the screen of `desktop`, which a second FreeRDP server serves without NLA. */
  static async start(testbed: Testbed, desktop: NlaDesktop, port: number, backend: number): Promise<DisconnectingProxy> {
    const home = join(testbed.dir, 'proxied');
    testbed.spawn('shadow-tls', 'freerdp-shadow-cli', [`/port:${backend}`, '/bind-address:127.0.0.1', '/sec:tls', '-auth'], { DISPLAY: desktop.display, HOME: home, XDG_CONFIG_HOME: join(home, 'config') });
    await eventually('the RDP server listens', () => isListening(backend));
    const [key, cert] = ['key.pem', 'cert.pem'].map((name) => join(testbed.dir, `proxy-${name}`)) as [string, string];
    execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=proxy.test', '-keyout', key, '-out', cert], { stdio: 'ignore' });
    const secureContext = createSecureContext({ key: readFileSync(key), cert: readFileSync(cert) });
    const server = createServer((near) => {
      near.on('error', () => {});
      void (async () => {
        const far = connect(backend, '127.0.0.1');
        far.on('error', () => near.destroy());
        far.write(await readTpkt(near));
        near.write(await readTpkt(far));
        const inside = new TLSSocket(near, { isServer: true, secureContext });
        const outside = connectTls({ socket: far, rejectUnauthorized: false });
        for (const [from, to] of [[inside, outside], [outside, inside]] as const) from.on('error', () => to.destroy()).on('close', () => to.destroy()).pipe(to);
        proxy.#streams.add(inside);
      })();
    });
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    const proxy = new DisconnectingProxy(port, () => server.close());
    return proxy;
  }

  /** Sends a Set Error Info PDU ([MS-RDPBCGR] 2.2.5.1) on the I/O channel, then an MCS Disconnect Provider Ultimatum. */
  disconnectAll(code: number): void {
    const errorInfo = [22, 0, 0x17, 0, 0xea, 3, 1, 0, 1, 0, 0, 1, 4, 0, 0x2f, 0, 0, 0, code & 0xff, code >> 8, 0, 0];
    for (const stream of this.#streams) {
      stream.write(Buffer.from([3, 0, 0, 37, 2, 0xf0, 0x80, 0x68, 0, 1, 3, 0xeb, 0x70, 0x80, 22, ...errorInfo, 3, 0, 0, 9, 2, 0xf0, 0x80, 0x21, 0x80]));
      stream.end();
    }
    this.#streams.clear();
  }
}

/** A VNC server with a password, and a terminal on it. */
export async function startVncDesktop(testbed: Testbed, port: number): Promise<string> {
  const display = freeDisplay();
  const file = join(testbed.dir, 'vnc-password');
  writeFileSync(file, execFileSync('tigervncpasswd', ['-f'], { input: `${VNC_PASSWORD}\n` }), { mode: 0o600 });
  testbed.spawn('xvnc', 'Xtigervnc', [`:${display}`, '-rfbport', String(port), '-interface', '127.0.0.1', '-localhost=1', '-SecurityTypes', 'VncAuth', '-PasswordFile', file, '-geometry', '1024x768', '-depth', '24', '-AlwaysShared', '-nolisten', 'tcp']);
  await eventually('the VNC server listens', () => isListening(port));
  testbed.spawn('vnc-terminal', 'xterm', terminal, { DISPLAY: `:${display}` });
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
