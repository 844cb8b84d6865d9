/** The four states that every list page has: loading, empty, failing, and full. */
import { fireEvent, render, screen, waitFor } from '@testing-library/svelte';
import type { Component } from 'svelte';
import { expect, it, vi } from 'vitest';
import { ApiError } from '../../src/api/http';
import { common, errors } from '../../src/lib/strings';
import { router } from '../../src/console/state/router.svelte';

export interface ListPage<T> {
  component: Component<never>;
  props?: Record<string, unknown>;
  /** Path with query at which the page is shown. */
  path?: string;
  /** The mocked API call that fills the list. */
  call: (...args: never[]) => unknown;
  empty: T;
  /** Title of the empty state. */
  emptyTitle: string;
  full: T;
  /** Test id of a row, and how many there are when full. */
  row: string;
  rows: number;
}

export function show({ component, props = {}, path }: Pick<ListPage<never>, 'component' | 'props' | 'path'>) {
  if (path) router.go(path, { replace: true });
  return render(component as Component<Record<string, unknown>>, { props });
}

export function testListStates<T>(page: ListPage<T>): void {
  const call = vi.mocked(page.call as () => unknown);

  it('loading: shows a skeleton and no rows', () => {
    call.mockReturnValue(new Promise(() => {}));
    show(page);
    expect(screen.getAllByTestId('state-loading').length).toBeGreaterThan(0);
    expect(screen.queryByTestId(page.row)).toBeNull();
  });

  it('empty: says what to do next', async () => {
    call.mockResolvedValue(page.empty);
    show(page);
    expect(await screen.findByText(page.emptyTitle)).toBeTruthy();
    expect(screen.queryByTestId(page.row)).toBeNull();
    expect(screen.queryByTestId('state-error')).toBeNull();
  });

  it('full: shows every row', async () => {
    call.mockResolvedValue(page.full);
    show(page);
    await waitFor(() => expect(screen.getAllByTestId(page.row).length).toBe(page.rows));
    expect(screen.queryByText(page.emptyTitle)).toBeNull();
  });

  it('failing: shows the error with its request id, and retries', async () => {
    call.mockRejectedValueOnce(new ApiError(503, 'The database is busy', 'req-77'));
    call.mockResolvedValue(page.full);
    show(page);
    const error = await screen.findByTestId('state-error');
    expect(error.textContent).toContain(errors.unavailable.title);
    expect(error.textContent).toContain('The database is busy');
    expect(error.textContent).toContain('req-77');
    await fireEvent.click([...error.querySelectorAll('button')].find((button) => button.textContent?.includes(common.retry)) as HTMLElement);
    await waitFor(() => expect(screen.getAllByTestId(page.row).length).toBe(page.rows));
    expect(screen.queryByTestId('state-error')).toBeNull();
  });
}

/** Clicks the element with this test id and confirms the dialog that opens. */
export async function clickAndConfirm(testid: string, title: string): Promise<void> {
  await fireEvent.click(screen.getAllByTestId(testid)[0] as HTMLElement);
  const dialog = await screen.findByTestId('confirm-dialog');
  expect(dialog.textContent).toContain(title);
  await fireEvent.click(screen.getByTestId('confirm-ok'));
}
