// What every story does: calls the API as its administrator, takes pictures, says what happened when it failed.
import { type Page, type TestInfo, expect } from '@playwright/test';
import type { House } from './house.ts';

export const shot = (page: Page, name: string) => page.screenshot({ path: `../../test-results/${name}.png` });

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
