/** The signed-in user; `undefined` while loading. */
import * as api from '../../api/calls';
import { ApiError, whenSignedOut } from '../../api/http';
import type { Me } from '../../api/types';
import { returnPath } from '../../lib/return-path';
import { router } from './router.svelte';

class Account {
  me = $state.raw<Me | null | undefined>(undefined);
  /** The error of the last load, unless it was a 401. */
  error = $state.raw<unknown>(null);
  /** The notice above the sign-in form. */
  notice = $state<'signed_out' | 'signed_out_by_user' | null>(null);

  get isAdmin(): boolean {
    return this.me?.role === 'admin';
  }
  get readsAudit(): boolean {
    return this.me?.role === 'admin' || this.me?.role === 'security';
  }

  constructor() {
    whenSignedOut(() => this.#sessionLost());
  }

  /** Loads the signed-in user. A 401 means signed out and is not an error. */
  async load(): Promise<void> {
    try {
      this.me = await api.me();
      this.error = null;
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) this.me = null;
      else this.error = error;
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
    this.notice = 'signed_out_by_user';
    this.me = null;
    router.go('/signin');
  }

  #sessionLost(): void {
    if (this.me) this.notice = 'signed_out';
    this.me = null;
    if (router.path === '/signin') return;
    const here = location.pathname + location.search;
    router.go(here === '/' ? '/signin' : `/signin?return=${encodeURIComponent(here)}`, { replace: true });
  }
}

export const account = new Account();
