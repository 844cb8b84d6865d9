// @vitest-environment jsdom
/** The two logs, which load page by page: the audit log and the request log. */
import './setup';
import { fireEvent, screen, waitFor } from '@testing-library/svelte';
import { describe, expect, it, vi } from 'vitest';
import * as api from '../../src/api/calls';
import { ApiError } from '../../src/api/http';
import Audit from '../../src/console/pages/Audit.svelte';
import Requests from '../../src/console/pages/Requests.svelte';
import { toasts } from '../../src/console/state/toasts.svelte';
import { auditPage, common, requestsPage } from '../../src/lib/strings';
import { entry, request, session } from './fixtures';
import { show, testListStates } from './states';

vi.mock('../../src/api/calls');

describe('Audit', () => {
  const entries = (...seqs: number[]) => ({ entries: seqs.map((seq) => entry(seq)), next_cursor: null, searched_to: null, newest_seq: seqs[0] ?? 0 });
  const page = { component: Audit, path: '/audit', call: api.audit, empty: entries(), emptyTitle: auditPage.emptyAll, full: entries(3, 2, 1), row: 'audit-row', rows: 3 };
  testListStates(page);

  it('offers to clear the filters when nothing matches', async () => {
    vi.mocked(api.audit).mockResolvedValue(entries());
    show({ ...page, path: '/audit?outcome=denied' });
    expect(await screen.findByText(auditPage.emptyTitle)).toBeTruthy();
    expect(vi.mocked(api.audit).mock.calls[0]?.[0]).toEqual({ outcome: 'denied' });
    await fireEvent.click(screen.getByTestId('filter-clear'));
    await waitFor(() => expect(vi.mocked(api.audit).mock.lastCall?.[0]).toEqual({}));
  });

  it('loads older entries below those shown', async () => {
    vi.mocked(api.audit).mockImplementation(async (_filter, part) => (part?.cursor ? entries(1) : { ...entries(2), next_cursor: '2' }));
    show(page);
    await fireEvent.click(await screen.findByTestId('audit-more'));
    await waitFor(() => expect(screen.getAllByTestId('audit-row').map((row) => row.dataset.seq)).toEqual(['2', '1']));
    expect(screen.queryByTestId('audit-more')).toBeNull();
  });

  it('gives up the search of the previous letter when the next one begins', async () => {
    vi.mocked(api.audit).mockImplementation((filter) => (filter.q === 'anna' ? Promise.resolve(entries(1)) : new Promise(() => {})));
    show({ ...page, path: '/audit?q=ann' });
    await waitFor(() => expect(api.audit).toHaveBeenCalledTimes(1));
    const first = vi.mocked(api.audit).mock.calls[0]?.[1]?.signal;
    expect(first?.aborted).toBe(false);
    await fireEvent.input(screen.getByTestId('filter-q'), { target: { value: 'anna' } });
    await waitFor(() => expect(api.audit).toHaveBeenCalledTimes(2));
    expect(first?.aborted).toBe(true);
    expect(vi.mocked(api.audit).mock.calls[1]?.[1]?.signal?.aborted).toBe(false);
    expect(await screen.findByTestId('audit-row')).toBeTruthy();
    expect(toasts.list).toEqual([]);
  });

  it('gives its search up when the page is left', async () => {
    vi.mocked(api.audit).mockImplementation(() => new Promise(() => {}));
    const { unmount } = show({ ...page, path: '/audit?q=ann' });
    await waitFor(() => expect(api.audit).toHaveBeenCalledTimes(1));
    unmount();
    expect(vi.mocked(api.audit).mock.calls[0]?.[1]?.signal?.aborted).toBe(true);
  });

  it('says how far back a search came, and goes on from there', async () => {
    const stopped = { ...entries(), next_cursor: '70', searched_to: '2026-10-03T08:00:00Z', newest_seq: 99 };
    vi.mocked(api.audit).mockImplementation(async (_filter, part) => (part?.cursor === '70' ? { ...entries(12), newest_seq: 99 } : stopped));
    show({ ...page, path: '/audit?q=ann' });
    expect(await screen.findByText(common.nothingYet)).toBeTruthy();
    expect(screen.getByTestId('searched-to').textContent).toContain(common.searchedTo);
    expect(screen.queryByText(auditPage.emptyTitle)).toBeNull();
    const on = screen.getByTestId('audit-more');
    expect(on.textContent).toContain(common.searchOn);
    await fireEvent.click(on);
    expect((await screen.findByTestId('audit-row')).dataset.seq).toBe('12');
    expect(screen.queryByTestId('searched-to')).toBeNull();
  });

  it('opens the details of an entry by keyboard', async () => {
    vi.mocked(api.audit).mockResolvedValue(entries(1));
    show(page);
    await fireEvent.keyDown(await screen.findByTestId('audit-row'), { key: 'Enter' });
    expect((await screen.findByTestId('audit-detail')).textContent).toContain('cd'.repeat(32));
  });

  it.each([
    [{ ok: true, entries: 3, head: { seq: 3, hash: 'ff', signature: 's' }, first_error: null, accepted_by: null }, auditPage.verified(3)],
    [{ ok: false, entries: 3, head: { seq: 3, hash: 'ff', signature: 's' }, first_error: 'entry 2: hash', accepted_by: null }, auditPage.brokenAt('entry 2: hash')],
    [{ ok: true, entries: 3, head: { seq: 3, hash: 'ff', signature: 's' }, first_error: null, accepted_by: 2 }, auditPage.acceptedBy(2)],
  ])('shows the verdict %#', async (verdict, text) => {
    vi.mocked(api.audit).mockResolvedValue(entries(1));
    vi.mocked(api.verifyAudit).mockResolvedValue(verdict);
    show(page);
    await fireEvent.click(screen.getByTestId('audit-verify'));
    const shown = await screen.findByTestId('audit-verdict');
    expect([shown.dataset.ok, shown.textContent?.includes(text)]).toEqual([String(verdict.ok), true]);
  });

  it('says so when the verification fails', async () => {
    vi.mocked(api.audit).mockResolvedValue(entries(1));
    vi.mocked(api.verifyAudit).mockRejectedValue(new ApiError(503, 'busy'));
    show(page);
    await fireEvent.click(screen.getByTestId('audit-verify'));
    await waitFor(() => expect(toasts.list[0]).toMatchObject({ kind: 'bad', text: 'busy' }));
    expect(screen.queryByTestId('audit-verdict')).toBeNull();
  });
});

describe('Requests', () => {
  const rows = (...list: ReturnType<typeof request>[]) => ({ requests: list, next_cursor: null, searched_to: null, newest_seq: list[0]?.seq ?? 0 });
  const path = `/requests?session=${session().id}`;
  const full = rows(request(2, { ended: 'refused', status: 403 }), request(1, { ended: 'failed', status: 0 }));
  const page = { component: Requests, path, call: api.requests, empty: rows(), emptyTitle: requestsPage.emptyAll, full, row: 'request-row', rows: 2 };
  testListStates(page);

  it('asks for a session first', async () => {
    show({ ...page, path: '/requests' });
    expect(await screen.findByText(requestsPage.none)).toBeTruthy();
    expect(api.requests).not.toHaveBeenCalled();
  });

  it('names the user and the workspace of a live session', async () => {
    vi.mocked(api.everyonesSessions).mockResolvedValue([session({ workspace_name: 'Wiki' })]);
    vi.mocked(api.requests).mockResolvedValue(full);
    show(page);
    expect(await screen.findByText(requestsPage.lead(session().user_email, 'Wiki'))).toBeTruthy();
  });

  it('shows outcome and status of each request', async () => {
    vi.mocked(api.requests).mockResolvedValue(full);
    show(page);
    const [refused, failed] = await screen.findAllByTestId('request-row');
    expect(refused?.textContent).toContain('403');
    expect(refused?.textContent).toContain(requestsPage.ends.refused);
    expect(failed?.textContent).toContain(requestsPage.noStatus);
  });
});
