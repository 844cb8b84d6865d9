// A testbed: a gateway and an agent as processes, in a temporary folder that is removed with them.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, openSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { Agent, request as httpsRequest } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const BINARY = process.env.PORTCULLIS_BIN ?? resolve('../../target/debug/portcullis');
const STEP_MS = 30_000;

export interface TestUser {
  email: string;
  password: string;
  secret: string;
  /** The last time step used: a code is valid once. */
  step: number;
}

export interface Answer {
  status: number;
  body: any;
}

/** Polls until `check` returns a value, and returns it; fails with `what` after the timeout. */
export async function eventually<T>(what: string, check: () => T | undefined | false | Promise<T | undefined | false>, ms = 60_000): Promise<T> {
  const end = Date.now() + ms;
  for (;;) {
    const found = await check();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms`);
    await new Promise((r) => setTimeout(r, 25));
  }
}

/** RFC 6238: the code of a time step. Implemented here, so that the gateway is not tested against its own code. */
export function codeAt(secret: string, step: number): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  let bits = '';
  for (const letter of secret.replace(/[\s=]/g, '')) bits += alphabet.indexOf(letter).toString(2).padStart(5, '0');
  const key = Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(step));
  const mac = createHmac('sha1', key).update(counter).digest();
  const at = mac[19]! & 15;
  return String((mac.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}

/** A code that has not been used yet. The gateway accepts the next step's, too, so that two sign-ins need not be 30 s apart. */
export async function nextCode(user: TestUser): Promise<string> {
  const present = () => Math.floor(Date.now() / STEP_MS);
  const step = Math.max(user.step + 1, present());
  await eventually('a fresh one-time code', () => step <= present() + 1 || undefined, 2 * STEP_MS);
  user.step = step;
  return codeAt(user.secret, step);
}

/** A port below the ephemeral range, which another process could get while the gateway restarts. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 12_000 + Math.floor(Math.random() * 18_000);
    const server = createServer().listen(port, '127.0.0.1');
    const free = await once(server, 'listening').then(() => true, () => false);
    if (!free) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}

/** A shell that ends processes when its input ends, however this process ends. Reads `+ PID` and `- PID`. */
const GUARD_SCRIPT = `
trap '' INT TERM HUP
left=' '
while read -r what pid; do
  case "$what" in
    +) left="$left$pid " ;;
    -) left="\${left%% $pid *} \${left#* $pid }" ;;
  esac
done
[ "$left" = ' ' ] && exit
kill -TERM $left
for _ in $(seq 100); do kill -0 $left || exit; sleep 0.1; done
kill -KILL $left
`;

/** Command lines of all processes of this machine. */
function commandLines(): string[] {
  return readdirSync('/proc').flatMap((name) => {
    try {
      return /^\d+$/.test(name) ? [readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ')] : [];
    } catch {
      return []; // It has ended meanwhile.
    }
  });
}

export class Testbed {
  readonly dir = mkdtempSync(join(tmpdir(), 'pc-'));
  readonly #processes = new Map<string, ChildProcess>();
  readonly #env: NodeJS.ProcessEnv;
  readonly #tls = new Agent({ keepAlive: false });
  readonly #guard = spawn('sh', ['-c', GUARD_SCRIPT], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });

  private constructor(
    readonly port: number,
    udp: number,
    readonly name: string,
  ) {
    const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('PORTCULLIS_')));
    this.#env = {
      ...clean,
      PORTCULLIS_SERVER__DATA_DIR: join(this.dir, 'gateway'),
      PORTCULLIS_SERVER__LISTEN: `127.0.0.1:${port}`,
      PORTCULLIS_SERVER__PUBLIC_URL: `https://${name}:${port}`,
      PORTCULLIS_TUNNEL__LISTEN: `127.0.0.1:${udp}`,
      PORTCULLIS_TUNNEL__ENDPOINT: `127.0.0.1:${udp}`,
      PORTCULLIS_APPS__DOMAIN: `apps.${name}`,
      PORTCULLIS_LOG__LEVEL: 'info',
    };
  }

  /** Starts a gateway, an agent and a workspace, without users. The applications domain is `apps.` before the gateway's name. */
  static async start({ services = {}, name = 'localhost' }: { services?: Record<string, number>; name?: string } = {}): Promise<Testbed> {
    const testbed = new Testbed(await freePort(), await freePort(), name);
    testbed.cli('workspace', 'create', 'ws-linux-desktop', '--name', 'Linux Desktop', '--description', 'A desktop of your own.');
    await testbed.startGateway();
    // The printed command is used, except for the state folder, and for a name that only browsers resolve to this machine.
    const command = /^portcullis (agent .*)$/m.exec(testbed.cli('host', 'join-token', '--name', 'host-1'))?.[1];
    if (!command) throw new Error('no join command was printed');
    testbed.#start('agent', [
      ...command.replace(testbed.url, `https://localhost:${testbed.port}`).split(' '),
      ...['--state-dir', join(testbed.dir, 'agent')],
      ...Object.entries(services).flatMap(([name, port]) => ['--service', `${name}=127.0.0.1:${port}`]),
    ]);
    await testbed.hostConnected();
    return testbed;
  }

  get url(): string {
    return `https://${this.name}:${this.port}`;
  }

  async startGateway(): Promise<void> {
    this.#start('gateway', ['serve']);
    await eventually('the gateway answers', async () => {
      if (this.#processes.get('gateway')?.exitCode != null) throw new Error(`the gateway ended:\n${this.log('gateway')}`);
      return (await this.health())?.status === 200;
    });
  }

  async health(): Promise<Answer | undefined> {
    return this.request('GET', '/api/health').catch(() => undefined);
  }

  /** Resolves when the host's tunnel is up. */
  async hostConnected(): Promise<void> {
    await eventually('the host connects', async () => (await this.health())?.body.dependencies.hosts.connected === 1);
  }

  /** By SIGKILL. */
  async kill(name: 'gateway' | 'agent'): Promise<void> {
    await this.#end(name, 'SIGKILL');
  }

  /** Starts a program in the testbed's folder; it ends with the testbed. */
  spawn(name: string, command: string, args: string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    const log = openSync(join(this.dir, `${name}.log`), 'a');
    return this.#register(name, spawn(command, args, { cwd: this.dir, env: { ...process.env, HOME: this.dir, ...env }, stdio: ['ignore', log, log] }));
  }

  async stop(name: string): Promise<void> {
    await this.#end(name, 'SIGKILL');
  }

  async close(): Promise<void> {
    const own = [...this.#processes.keys()].filter((name) => name !== 'agent' && name !== 'gateway');
    for (const name of [...own.reverse(), 'agent', 'gateway']) await this.#end(name, own.includes(name) ? 'SIGKILL' : 'SIGTERM');
    this.#guard.stdin.end();
    // A process whose command line names the folder belongs to this testbed, for example a desktop.
    const remaining = commandLines().filter((line) => line.includes(this.dir));
    if (remaining.length > 0) throw new Error(`processes remain:\n${remaining.join('\n')}`);
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** Runs `portcullis` with the gateway's settings, as another process. */
  cli(...args: string[]): string {
    return execFileSync(BINARY, args, { env: this.#env, encoding: 'utf8' });
  }

  /** Processes that have a log. */
  logNames(): string[] {
    return readdirSync(this.dir).filter((name) => name.endsWith('.log') && name !== 'xev.log').map((name) => name.slice(0, -'.log'.length));
  }

  /** The end of a process's log, without the access log. */
  log(name: string): string {
    const lines = readFileSync(join(this.dir, `${name}.log`), 'utf8').split('\n');
    return lines.filter((line) => !line.includes('portcullis::access')).join('\n').slice(-6000);
  }

  /** A user with a password and no second factor yet. */
  createUser(email: string, role: string): TestUser {
    const out = this.cli('user', 'create', email, '--role', role, '--generate');
    const password = /shown only now\): (\S+)/.exec(out)?.[1];
    if (!password) throw new Error(`no password in: ${out}`);
    return { email, password, secret: '', step: 0 };
  }

  /** Enrols a second factor through the API, and returns an access token. */
  async enrolTotp(user: TestUser): Promise<string> {
    const { body: first } = await this.request('POST', '/api/auth/login', { email: user.email, password: user.password });
    const { body: factor } = await this.request('POST', '/api/auth/mfa/totp/enroll', { mfa_token: first.mfa_token });
    user.secret = factor.secret;
    const { status, body } = await this.request('POST', '/api/auth/mfa/totp/confirm', { mfa_token: first.mfa_token, code: await nextCode(user) });
    if (status !== 200) throw new Error(`enrolment: ${status} ${JSON.stringify(body)}`);
    return body.access_token;
  }

  /** The folder on the host that is the user's home. */
  home(userId: string): string {
    return join(this.dir, 'agent/homes', userId);
  }

  request(method: string, path: string, body?: unknown, token?: string): Promise<Answer> {
    return new Promise((done, failed) => {
      const headers: Record<string, string> = { host: `${this.name}:${this.port}`, 'content-type': 'application/json' };
      if (token) headers.authorization = `Bearer ${token}`;
      // The certificate is checked against the gateway's own authority, and nothing else.
      const ca = readFileSync(join(this.dir, 'gateway/tls/ca.pem'));
      const outgoing = httpsRequest({ host: '127.0.0.1', servername: this.name, port: this.port, method, path, headers, ca, agent: this.#tls, timeout: 60_000 }, (answer) => {
        let text = '';
        answer.setEncoding('utf8').on('data', (piece) => (text += piece));
        answer.on('end', () => done({ status: answer.statusCode ?? 0, body: text.startsWith('{') || text.startsWith('[') ? JSON.parse(text) : text }));
      });
      outgoing.on('timeout', () => outgoing.destroy(new Error('no answer in 60 s')));
      outgoing.on('error', failed);
      outgoing.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  #start(name: string, args: string[]): void {
    const log = openSync(join(this.dir, `${name}.log`), 'a');
    this.#register(name, spawn(BINARY, args, { env: this.#env, stdio: ['ignore', log, log] }));
  }

  #register(name: string, process: ChildProcess): ChildProcess {
    this.#processes.set(name, process);
    this.#guard.stdin.write(`+ ${process.pid}\n`);
    process.once('exit', () => this.#guard.stdin.write(`- ${process.pid}\n`));
    return process;
  }

  async #end(name: string, signal: NodeJS.Signals): Promise<void> {
    const process = this.#processes.get(name);
    this.#processes.delete(name);
    if (!process || process.exitCode !== null || process.signalCode !== null) return;
    const ended = once(process, 'exit');
    process.kill(signal);
    await ended;
  }
}
