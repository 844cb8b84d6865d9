/** The audit entries that a filter shows, as a table for a spreadsheet. (The whole log comes from the server.) */
import type { AuditEntry } from '../api/types';

const COLUMNS: readonly [string, (entry: AuditEntry) => string | number | null | undefined][] = [
  ['seq', (e) => e.seq],
  ['time', (e) => e.time],
  ['actor_email', (e) => e.actor?.email],
  ['actor_role', (e) => e.actor?.role],
  ['action', (e) => e.action],
  ['target_type', (e) => e.target?.type],
  ['target_id', (e) => e.target?.id],
  ['target_name', (e) => e.target?.name],
  ['outcome', (e) => e.outcome],
  ['reason', (e) => e.reason],
  ['source_ip', (e) => e.source_ip],
  ['user_agent', (e) => e.user_agent],
  ['session_id', (e) => e.session_id],
  ['workspace_id', (e) => e.workspace_id],
  ['request_id', (e) => e.request_id],
  ['details', (e) => JSON.stringify(e.details ?? {})],
  ['hash', (e) => e.hash],
];

/** A cell is data: quoted, and never a formula, whatever somebody has called themselves. */
function cell(value: string | number | null | undefined): string {
  const text = String(value ?? '');
  return `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
}

export function toCsv(entries: readonly AuditEntry[]): string {
  const rows = [COLUMNS.map(([name]) => name).join(','), ...entries.map((entry) => COLUMNS.map(([, read]) => cell(read(entry))).join(','))];
  return `${rows.join('\r\n')}\r\n`;
}
