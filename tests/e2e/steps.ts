// What every story does: signs in, calls the API as its administrator, takes pictures, says what happened when it failed.
import { type Page, type TestInfo, expect } from '@playwright/test';
import { type House, type Person, nextCode } from './house.ts';

export const shot = (page: Page, name: string) => page.screenshot({ path: `../../test-results/${name}.png` });

/** Signs in at the portal, as somebody who has seen the viewer's first hint. */
export async function signIn(page: Page, house: House, person: Person): Promise<void> {
  await page.addInitScript(() => window === window.top && localStorage.setItem('portcullis.viewer.hint', 'seen'));
  await page.goto(`${house.url}/signin`);
  await page.getByTestId('signin-email').fill(person.email);
  await page.getByTestId('signin-password').fill(person.password);
  await page.getByTestId('signin-submit').click();
  await page.getByTestId('code-input').fill(await nextCode(person));
  await expect(page.getByTestId('user-menu')).toBeVisible();
}

/** A call of the API with the token of the moment; fails on another status than the one expected, and answers with the body. */
export function calling(house: () => House, token: () => string) {
  return async (method: string, path: string, body: unknown, status: number): Promise<any> => {
    const answer = await house().call(method, path, body, token());
    expect(answer.status, `${method} ${path}: ${JSON.stringify(answer.body)}`).toBe(status);
    return answer.body;
  };
}

/** The logs of a story that failed. */
export function tell(house: House, info: TestInfo): void {
  if (info.errors.length > 0) console.log(`gateway:\n${house.log('gateway')}\nagent:\n${house.log('agent')}`);
}
