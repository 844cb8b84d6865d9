// Steps shared by the browser tests: a testbed for a file of tests, sign-in, API calls, screenshots.
import { type Browser, type BrowserContext, type Page, type TestInfo, test as base, expect } from '@playwright/test';
import { Testbed, type TestUser, eventually, freePort, nextCode } from './testbed.ts';

export const screenshot = (page: Page, name: string) => page.screenshot({ path: `../../test-results/${name}.png` });

/** Enters e-mail address and password at the sign-in page. */
export async function enterPassword(page: Page, testbed: Testbed, user: TestUser): Promise<void> {
  await page.goto(`${testbed.url}/signin`);
  await page.getByTestId('signin-email').fill(user.email);
  await page.getByTestId('signin-password').fill(user.password);
  await page.getByTestId('signin-submit').click();
}

/** Enters a fresh one-time code; the user is signed in afterwards. */
export async function enterCode(page: Page, user: TestUser): Promise<void> {
  await page.getByTestId('code-input').fill(await nextCode(user));
  await expect(page.getByTestId('user-menu')).toBeVisible();
}

/** Signs in with both factors. */
export async function signIn(page: Page, testbed: Testbed, user: TestUser): Promise<void> {
  await enterPassword(page, testbed, user);
  await enterCode(page, user);
}

/** The viewer shows its first hint only to browsers that have not dismissed it. */
export const dismissHint = (context: BrowserContext) =>
  context.addInitScript(() => window === window.top && location.protocol === 'https:' && localStorage.setItem('portcullis.viewer.hint', 'seen'));

/** An API call with a token; fails on another status than the expected one, and returns the body. */
export function apiClient(testbed: () => Testbed, token: () => string) {
  return async (method: string, path: string, body: unknown, status: number): Promise<any> => {
    const answer = await testbed().request(method, path, body, token());
    expect(answer.status, `${method} ${path}: ${JSON.stringify(answer.body)}`).toBe(status);
    return answer.body;
  };
}

/** Prints the logs of gateway and agent after a failure. */
export function printLogs(testbed: Testbed, info: TestInfo): void {
  if (info.errors.length > 0) console.log(testbed.logNames().map((name) => `${name}:\n${testbed.log(name)}`).join('\n'));
}

/** The session shown by a viewer page. */
export const sessionOf = (page: Page): string => page.url().split('/').at(-1)!;

/** Launches a workspace from the portal page, and returns the session. */
export async function launch(page: Page, testbed: Testbed, workspace: string): Promise<string> {
  await page.goto(testbed.url);
  await page.locator(`[data-testid=launch-${workspace}], [data-testid=continue-${workspace}]`).first().click();
  await page.waitForURL('**/viewer/*');
  return sessionOf(page);
}

export interface Options<Service extends string> {
  /** Services of the host: each gets a free port. */
  services?: readonly Service[];
  /** The gateway's host name. */
  name?: string;
  /** The role of the user whose browser the tests use; an administrator's token is there in any case. */
  role?: 'admin' | 'member';
  /** Runs once, with testbed, administrator and API ready, before the browser signs in. */
  setUp?: (bed: Bed<Service>) => Promise<void>;
  /** Runs once, before the testbed ends. */
  tearDown?: (bed: Bed<Service>) => Promise<void>;
}

/** What the tests of one file share: a testbed, an administrator's token, and a browser that is signed in. */
export class Bed<Service extends string = never> {
  testbed!: Testbed;
  admin!: TestUser;
  /** The user of the browser. */
  user!: TestUser;
  userId = '';
  token = '';
  host = '';
  ports = {} as Record<Service, number>;
  context!: BrowserContext;
  readonly api = apiClient(() => this.testbed, () => this.token);

  async start({ services = [], name, role = 'admin', setUp }: Options<Service>, browser: Browser): Promise<void> {
    for (const service of services) this.ports[service] = await freePort();
    this.testbed = await Testbed.start({ services: this.ports, name });
    this.admin = this.testbed.createUser('root@example.test', 'admin');
    this.token = await this.testbed.enrolTotp(this.admin);
    this.host = (await this.api('GET', '/api/hosts', undefined, 200))[0].id;
    this.user = this.admin;
    if (role !== 'admin') {
      this.user = this.testbed.createUser('mia@example.test', role);
      await this.testbed.enrolTotp(this.user);
    }
    await setUp?.(this);
    this.context = await browser.newContext();
    await dismissHint(this.context);
    const page = await this.context.newPage();
    await signIn(page, this.testbed, this.user);
    this.userId = await page.evaluate(async () => (await (await fetch('/api/auth/me')).json()).id);
    await page.close();
  }

  /** The home folder of the browser's user on the host. */
  get home(): string {
    return this.testbed.home(this.userId);
  }

  service(name: Service): { host_id: string; service: Service } {
    return { host_id: this.host, service: name };
  }

  /** Ends every live session, so that the next launch is a new one. */
  async endSessions(): Promise<void> {
    const live = async (): Promise<{ id: string }[]> => this.api('GET', '/api/admin/sessions', undefined, 200);
    for (const { id } of await live()) await this.testbed.request('POST', `/api/admin/sessions/${id}/terminate`, {}, this.token);
    await eventually('every session has ended', async () => (await live()).length === 0);
  }

  /** Audit entries that match a query, newest first. */
  async auditEntries(query: string): Promise<any[]> {
    return (await this.api('GET', `/api/audit?limit=200&${query}`, undefined, 200)).entries;
  }
}

/**
 * Tests of one file on one testbed. Each test gets a new page of the signed-in browser; when it ends, its pages are closed, its sessions ended,
 * and an uncaught error or a violation of the content security policy in a page fails it.
 */
export function testsOn<Service extends string = never>(options: Options<Service> = {}) {
  const bed = new Bed<Service>();
  const test = base.extend<{ page: Page }>({
    page: async ({}, use) => {
      const errors: string[] = [];
      const watch = (page: Page) => {
        page.on('pageerror', (error) => errors.push(error.message));
        page.on('console', (line) => {
          if (line.text().includes('Content Security Policy')) errors.push(line.text());
        });
      };
      bed.context.on('page', watch);
      await use(await bed.context.newPage());
      bed.context.off('page', watch);
      await Promise.all(bed.context.pages().map((page) => page.close()));
      await bed.endSessions();
      expect(errors).toEqual([]);
    },
  });
  test.beforeAll(async ({ browser }) => bed.start(options, browser));
  test.afterEach(({}, info) => printLogs(bed.testbed, info));
  test.afterAll(async () => {
    await bed.context?.close();
    await options.tearDown?.(bed);
    await bed.testbed?.close();
  });
  return { test, bed };
}
