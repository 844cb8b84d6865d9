-- A session and a ticket name their principal: a user, an API key, or the system. So user_id and login_id may be NULL, and host_id is NULL for a
-- direct target, which runs on no host of ours (before: the nil UUID).
--
-- SQLite cannot make a column nullable, so sessions is made again, and with it every table that refers to it.

-- NULL: a user, or the system; api_key. Not part of an entry's hash when it is NULL, so that older entries keep theirs.
ALTER TABLE audit_entries ADD COLUMN actor_type TEXT;
CREATE INDEX audit_by_organization ON audit_entries (organization_id, seq);

DROP INDEX sessions_of_user;
DROP INDEX sessions_of_user_by_status;
DROP INDEX live_sessions_addresses;
DROP INDEX live_sessions_of_organization;
DROP INDEX live_sessions_of_user;
DROP INDEX live_sessions_of_workspace;
DROP INDEX live_sessions_of_host;
DROP INDEX seats_of_session;
DROP INDEX tickets_by_expiry;

ALTER TABLE sessions RENAME TO old_sessions;
ALTER TABLE live_sessions RENAME TO old_live_sessions;
ALTER TABLE seats RENAME TO old_seats;
ALTER TABLE session_leases RENAME TO old_session_leases;
ALTER TABLE session_events RENAME TO old_session_events;
ALTER TABLE tickets RENAME TO old_tickets;
ALTER TABLE app_requests RENAME TO old_app_requests;
ALTER TABLE app_request_counts RENAME TO old_app_request_counts;

CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    -- user | api_key | system
    principal_kind TEXT NOT NULL,
    user_id TEXT REFERENCES users (id),
    api_key_id TEXT,
    -- The user's e-mail address at launch, or the key's name.
    principal_name TEXT NOT NULL,
    login_id TEXT,
    workspace_id TEXT NOT NULL,
    workspace_name TEXT NOT NULL,
    workspace_kind TEXT NOT NULL,
    host_id TEXT,
    state TEXT NOT NULL,
    reason TEXT,
    status TEXT,
    address TEXT NOT NULL,
    -- own | host | direct NAME
    way TEXT NOT NULL,
    mfa_method TEXT,
    mfa_verified_at BIGINT,
    peer_public_key TEXT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    expires_at BIGINT NOT NULL,
    version BIGINT NOT NULL
);
INSERT INTO sessions (
    id, organization_id, principal_kind, user_id, principal_name, login_id, workspace_id, workspace_name, workspace_kind, host_id, state, reason,
    status, address, way, mfa_method, mfa_verified_at, peer_public_key, created_at, started_at, ended_at, expires_at, version
)
SELECT
    id, organization_id, 'user', user_id, user_email, login_id, workspace_id, workspace_name, workspace_kind,
    NULLIF(host_id, '00000000-0000-0000-0000-000000000000'), state, reason,
    status, address, way, mfa_method, mfa_verified_at, peer_public_key, created_at, started_at, ended_at, expires_at, version
FROM old_sessions;
CREATE INDEX sessions_of_user ON sessions (user_id, created_at, id);
CREATE INDEX sessions_of_user_by_status ON sessions (user_id, status, created_at, id);

CREATE TABLE live_sessions (
    session_id TEXT NOT NULL PRIMARY KEY REFERENCES sessions (id),
    organization_id TEXT NOT NULL,
    user_id TEXT,
    workspace_id TEXT NOT NULL,
    host_id TEXT,
    address TEXT NOT NULL,
    way TEXT NOT NULL
);
INSERT INTO live_sessions (session_id, organization_id, user_id, workspace_id, host_id, address, way)
SELECT session_id, organization_id, user_id, workspace_id, NULLIF(host_id, '00000000-0000-0000-0000-000000000000'), address, way
FROM old_live_sessions;
CREATE UNIQUE INDEX live_sessions_addresses ON live_sessions (address) WHERE way = 'own';
CREATE INDEX live_sessions_of_organization ON live_sessions (organization_id);
CREATE INDEX live_sessions_of_user ON live_sessions (user_id);
CREATE INDEX live_sessions_of_workspace ON live_sessions (workspace_id);
CREATE INDEX live_sessions_of_host ON live_sessions (host_id);

CREATE TABLE seats (
    seat TEXT NOT NULL PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id)
);
INSERT INTO seats (seat, session_id) SELECT seat, session_id FROM old_seats;
CREATE INDEX seats_of_session ON seats (session_id);

CREATE TABLE session_leases (
    session_id TEXT NOT NULL PRIMARY KEY REFERENCES sessions (id),
    peer_public_key TEXT NOT NULL,
    psk_sealed TEXT NOT NULL,
    port INTEGER NOT NULL,
    credential_sealed TEXT NOT NULL,
    certificate TEXT
);
INSERT INTO session_leases (session_id, peer_public_key, psk_sealed, port, credential_sealed, certificate)
SELECT session_id, peer_public_key, psk_sealed, port, credential_sealed, certificate FROM old_session_leases;

CREATE TABLE session_events (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    at BIGINT NOT NULL,
    PRIMARY KEY (session_id, version)
);
INSERT INTO session_events (session_id, version, state, reason, at) SELECT session_id, version, state, reason, at FROM old_session_events;

CREATE TABLE tickets (
    hash TEXT NOT NULL PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id),
    principal_kind TEXT NOT NULL,
    user_id TEXT REFERENCES users (id),
    api_key_id TEXT,
    login_id TEXT,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);
INSERT INTO tickets (hash, session_id, principal_kind, user_id, login_id, expires_at, used_at)
SELECT hash, session_id, 'user', user_id, login_id, expires_at, used_at FROM old_tickets;
CREATE INDEX tickets_by_expiry ON tickets (expires_at);

CREATE TABLE app_requests (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    -- Place within the session, from 1.
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    method TEXT NOT NULL,
    -- Without its query, at most 512 bytes.
    path TEXT NOT NULL,
    -- What the browser was answered; 0: nothing.
    status INTEGER NOT NULL,
    bytes_in BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    ended TEXT NOT NULL,
    PRIMARY KEY (session_id, seq)
);
INSERT INTO app_requests (session_id, seq, at, method, path, status, bytes_in, bytes_out, duration_ms, ended)
SELECT session_id, seq, at, method, path, status, bytes_in, bytes_out, duration_ms, ended FROM old_app_requests;

CREATE TABLE app_request_counts (
    session_id TEXT NOT NULL PRIMARY KEY REFERENCES sessions (id),
    last_seq BIGINT NOT NULL
);
INSERT INTO app_request_counts (session_id, last_seq) SELECT session_id, last_seq FROM old_app_request_counts;

DROP TABLE old_app_request_counts;
DROP TABLE old_app_requests;
DROP TABLE old_tickets;
DROP TABLE old_session_events;
DROP TABLE old_session_leases;
DROP TABLE old_seats;
DROP TABLE old_live_sessions;
DROP TABLE old_sessions;
