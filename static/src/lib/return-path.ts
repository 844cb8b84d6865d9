/** The path to open after sign-in: only a path of this origin (no open redirect). */
export function returnPath(wanted: string | null): string {
  if (!wanted || !wanted.startsWith('/') || wanted.startsWith('//') || /[\\\u0000-\u001f]/.test(wanted)) return '/';
  const url = new URL(wanted, 'http://here');
  if (url.host !== 'here' || url.pathname === '/signin' || url.pathname.startsWith('/api/')) return '/';
  return url.pathname + url.search;
}
