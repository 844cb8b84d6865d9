/** Who is signed in. `undefined` until the server has said. */
import * as api from '../../api/calls';
import { ApiError, whenSignedOut } from '../../api/http';
import type { Me } from '../../api/types';
import { returnPath } from '../../lib/return-path';
import { router } from './router.svelte';

class Account {
  me = $state.raw<Me | null | undefined>(undefined);
  /** Why there is nobody, when that needs saying. */
  trouble = $state.raw<unknown>(null);
  /** What the sign-in page says above the form. */
  notice = $state<'signed_out' | 'bye' | null>(null);

  get isAdmin(): boolean {
    return this.me?.role === 'admin';
  }
  get readsAudit(): boolean {
    return this.me?.role === 'admin' || this.me?.role === 'security';
  }

  constructor() {
    whenSignedOut(() => this.#lost());
  }

  /** Asks who is signed in. On a first visit nobody is, and that is no trouble. */
  async load(): Promise<void> {
    try {
      this.me = await api.me();
      this.trouble = null;
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) this.me = null;
      else this.trouble = error;
    }
  }

  async signedIn(): Promise<void> {
    this.notice = null;
    await this.load();
    if (!this.me) return;
    const to = returnPath(router.query.get('return'));
    if (to.startsWith('/viewer/')) location.assign(to);
    else router.go(to, { replace: true });
  }

  async signOut(everywhere: boolean): Promise<void> {
    try {
      await api.logout(everywhere);
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 401)) throw error;
    }
    this.notice = 'bye';
    this.me = null;
    router.go('/signin');
  }

  #lost(): void {
    if (this.me) this.notice = 'signed_out';
    this.me = null;
    if (router.path === '/signin') return;
    const here = location.pathname + location.search;
    router.go(here === '/' ? '/signin' : `/signin?return=${encodeURIComponent(here)}`, { replace: true });
  }
}

export const account = new Account();
