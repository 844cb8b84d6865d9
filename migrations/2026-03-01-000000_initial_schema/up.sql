-- The initial schema. One history for SQLite and PostgreSQL: TEXT, BIGINT, INTEGER and BOOLEAN only.
-- Times are unix milliseconds; ids are UUIDs as text, workspace ids are slugs; lists are JSON text; secrets are hashed or sealed.
--
--   organizations 1---* users 1---0..1 totp                 audit_entries   the log, chained by hash, append-only
--        |                |  1---* mfa_challenges            audit_head      one row: the end of the chain, signed
--        |                |  1---* logins 1---* refresh_tokens
--        |                |                                 signing_keys    token keys, sealed
--        |                |  1---* tickets *---1 sessions    settings        names and values
--        |                |                      |
--        |                '--1---* sessions -----'
--        |                           1---0..1 live_sessions  while it is live: its address is taken
--        |                           1---*    seats          while it holds them: "workspace" or "workspace/user"
--        |                           1---0..1 session_leases while it is live: how to reach its desktop, sealed
--        |                           1---*    session_events every state it was in
--        1---* workspaces     (a removed one keeps its row; its id may be used again)
--        1---* hosts
--        1---* join_tokens
--
-- A session copies what it needs of its user, login, workspace and host, and refers to none of the last three: history outlives them.

CREATE TABLE organizations (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    email TEXT NOT NULL,
    -- The address in lower case, as the gateway compares it: the databases fold letters differently.
    email_key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    disabled BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    last_login_at BIGINT
);
CREATE INDEX users_of_organization ON users (organization_id, email_key);

CREATE TABLE totp (
    user_id TEXT NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    sealed TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    confirmed_at BIGINT,
    -- The last step whose code was used: a code works once.
    last_step BIGINT NOT NULL
);

CREATE TABLE mfa_challenges (
    id TEXT NOT NULL PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    purpose TEXT NOT NULL,
    tries INTEGER NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX mfa_challenges_by_expiry ON mfa_challenges (expires_at);
CREATE INDEX mfa_challenges_of_user ON mfa_challenges (user_id);

CREATE TABLE logins (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    mfa_method TEXT,
    mfa_verified_at BIGINT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT,
    source_ip TEXT,
    user_agent TEXT
);
CREATE INDEX logins_of_user ON logins (user_id);
CREATE INDEX logins_by_expiry ON logins (expires_at);

CREATE TABLE refresh_tokens (
    hash TEXT NOT NULL PRIMARY KEY,
    login_id TEXT NOT NULL REFERENCES logins (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);
CREATE INDEX refresh_tokens_of_login ON refresh_tokens (login_id);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

CREATE TABLE workspaces (
    row_id TEXT NOT NULL PRIMARY KEY,
    id TEXT NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    kind TEXT NOT NULL,
    icon TEXT NOT NULL,
    tags TEXT NOT NULL,
    requires_mfa BOOLEAN NOT NULL,
    single_seat BOOLEAN NOT NULL,
    network BOOLEAN NOT NULL,
    allowed_roles TEXT NOT NULL,
    maintenance BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT
);
CREATE UNIQUE INDEX workspaces_in_use ON workspaces (id) WHERE deleted_at IS NULL;
CREATE INDEX workspaces_of_organization ON workspaces (organization_id, name);

CREATE TABLE hosts (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    public_key TEXT NOT NULL UNIQUE,
    address TEXT NOT NULL UNIQUE,
    endpoint TEXT,
    version TEXT NOT NULL,
    psk_sealed TEXT NOT NULL,
    enrolled_at BIGINT NOT NULL,
    last_seen_at BIGINT
);
CREATE INDEX hosts_of_organization ON hosts (organization_id, name);

CREATE TABLE join_tokens (
    hash TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    name TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);
CREATE INDEX join_tokens_by_expiry ON join_tokens (expires_at);

CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    user_email TEXT NOT NULL,
    login_id TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    workspace_name TEXT NOT NULL,
    workspace_kind TEXT NOT NULL,
    host_id TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    -- What the workspaces dialect calls the state; NULL while the session is not listed.
    status TEXT,
    address TEXT NOT NULL,
    mfa_method TEXT,
    mfa_verified_at BIGINT,
    peer_public_key TEXT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    expires_at BIGINT NOT NULL,
    version BIGINT NOT NULL
);
-- A user's sessions, newest first, with and without a status.
CREATE INDEX sessions_of_user ON sessions (user_id, created_at, id);
CREATE INDEX sessions_of_user_by_status ON sessions (user_id, status, created_at, id);

CREATE TABLE live_sessions (
    session_id TEXT NOT NULL PRIMARY KEY REFERENCES sessions (id),
    organization_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    host_id TEXT NOT NULL,
    address TEXT NOT NULL UNIQUE
);
CREATE INDEX live_sessions_of_organization ON live_sessions (organization_id);
CREATE INDEX live_sessions_of_user ON live_sessions (user_id);
CREATE INDEX live_sessions_of_workspace ON live_sessions (workspace_id);
CREATE INDEX live_sessions_of_host ON live_sessions (host_id);

CREATE TABLE seats (
    seat TEXT NOT NULL PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id)
);
CREATE INDEX seats_of_session ON seats (session_id);

CREATE TABLE session_leases (
    session_id TEXT NOT NULL PRIMARY KEY REFERENCES sessions (id),
    peer_public_key TEXT NOT NULL,
    psk_sealed TEXT NOT NULL,
    port INTEGER NOT NULL,
    credential_sealed TEXT NOT NULL
);

CREATE TABLE session_events (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    at BIGINT NOT NULL,
    PRIMARY KEY (session_id, version)
);

CREATE TABLE tickets (
    hash TEXT NOT NULL PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    login_id TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);
CREATE INDEX tickets_by_expiry ON tickets (expires_at);

-- No foreign keys: an entry names what was there when it was written, whatever became of it.
CREATE TABLE audit_entries (
    seq BIGINT NOT NULL PRIMARY KEY,
    time BIGINT NOT NULL,
    organization_id TEXT,
    actor_id TEXT,
    actor_email TEXT,
    actor_role TEXT,
    action TEXT NOT NULL,
    target_type TEXT,
    target_id TEXT,
    target_name TEXT,
    outcome TEXT NOT NULL,
    reason TEXT,
    source_ip TEXT,
    user_agent TEXT,
    session_id TEXT,
    workspace_id TEXT,
    request_id TEXT,
    details TEXT NOT NULL,
    prev_hash TEXT NOT NULL,
    hash TEXT NOT NULL
);
-- One for each filter of the log, each in the order the log is listed.
CREATE INDEX audit_by_time ON audit_entries (time);
CREATE INDEX audit_by_actor ON audit_entries (actor_id, seq);
CREATE INDEX audit_by_email ON audit_entries (lower(actor_email), seq);
CREATE INDEX audit_by_action ON audit_entries (action, seq);
CREATE INDEX audit_by_outcome ON audit_entries (outcome, seq);
CREATE INDEX audit_by_session ON audit_entries (session_id, seq);
CREATE INDEX audit_by_workspace ON audit_entries (workspace_id, seq);

CREATE TABLE audit_head (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    seq BIGINT NOT NULL,
    hash TEXT NOT NULL,
    signature TEXT NOT NULL
);
INSERT INTO audit_head (id, seq, hash, signature)
VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000', '');

CREATE TABLE signing_keys (
    kid TEXT NOT NULL PRIMARY KEY,
    sealed_private TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
