-- The older schema knows sessions and tickets of users only: those of API keys and of the system are removed. An entry of an API key keeps its
-- row, but without its type it does not match its hash any more.
DROP INDEX audit_by_organization;
ALTER TABLE audit_entries DROP COLUMN actor_type;

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
    user_id TEXT NOT NULL REFERENCES users (id),
    user_email TEXT NOT NULL,
    login_id TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    workspace_name TEXT NOT NULL,
    workspace_kind TEXT NOT NULL,
    host_id TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    status TEXT,
    address TEXT NOT NULL,
    mfa_method TEXT,
    mfa_verified_at BIGINT,
    peer_public_key TEXT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    expires_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    way TEXT NOT NULL DEFAULT 'own'
);
INSERT INTO sessions (
    id, organization_id, user_id, user_email, login_id, workspace_id, workspace_name, workspace_kind, host_id, state, reason,
    status, address, mfa_method, mfa_verified_at, peer_public_key, created_at, started_at, ended_at, expires_at, version, way
)
SELECT
    id, organization_id, user_id, principal_name, login_id, workspace_id, workspace_name, workspace_kind,
    COALESCE(host_id, '00000000-0000-0000-0000-000000000000'), state, reason,
    status, address, mfa_method, mfa_verified_at, peer_public_key, created_at, started_at, ended_at, expires_at, version, way
FROM old_sessions
WHERE principal_kind = 'user' AND login_id IS NOT NULL;
CREATE INDEX sessions_of_user ON sessions (user_id, created_at, id);
CREATE INDEX sessions_of_user_by_status ON sessions (user_id, status, created_at, id);

CREATE TABLE live_sessions (
    session_id TEXT NOT NULL PRIMARY KEY REFERENCES sessions (id),
    organization_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    host_id TEXT NOT NULL,
    address TEXT NOT NULL,
    way TEXT NOT NULL
);
INSERT INTO live_sessions (session_id, organization_id, user_id, workspace_id, host_id, address, way)
SELECT session_id, organization_id, user_id, workspace_id, COALESCE(host_id, '00000000-0000-0000-0000-000000000000'), address, way
FROM old_live_sessions
WHERE session_id IN (SELECT id FROM sessions);
CREATE UNIQUE INDEX live_sessions_addresses ON live_sessions (address) WHERE way = 'own';
CREATE INDEX live_sessions_of_organization ON live_sessions (organization_id);
CREATE INDEX live_sessions_of_user ON live_sessions (user_id);
CREATE INDEX live_sessions_of_workspace ON live_sessions (workspace_id);
CREATE INDEX live_sessions_of_host ON live_sessions (host_id);

CREATE TABLE seats (
    seat TEXT NOT NULL PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id)
);
INSERT INTO seats (seat, session_id) SELECT seat, session_id FROM old_seats WHERE session_id IN (SELECT id FROM sessions);
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
SELECT session_id, peer_public_key, psk_sealed, port, credential_sealed, certificate FROM old_session_leases WHERE session_id IN (SELECT id FROM sessions);

CREATE TABLE session_events (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    at BIGINT NOT NULL,
    PRIMARY KEY (session_id, version)
);
INSERT INTO session_events (session_id, version, state, reason, at) SELECT session_id, version, state, reason, at FROM old_session_events WHERE session_id IN (SELECT id FROM sessions);

CREATE TABLE tickets (
    hash TEXT NOT NULL PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    login_id TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);
INSERT INTO tickets (hash, session_id, user_id, login_id, expires_at, used_at)
SELECT hash, session_id, user_id, login_id, expires_at, used_at
FROM old_tickets
WHERE principal_kind = 'user' AND login_id IS NOT NULL AND session_id IN (SELECT id FROM sessions);
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
SELECT session_id, seq, at, method, path, status, bytes_in, bytes_out, duration_ms, ended FROM old_app_requests WHERE session_id IN (SELECT id FROM sessions);

CREATE TABLE app_request_counts (
    session_id TEXT NOT NULL PRIMARY KEY REFERENCES sessions (id),
    last_seq BIGINT NOT NULL
);
INSERT INTO app_request_counts (session_id, last_seq) SELECT session_id, last_seq FROM old_app_request_counts WHERE session_id IN (SELECT id FROM sessions);

DROP TABLE old_app_request_counts;
DROP TABLE old_app_requests;
DROP TABLE old_tickets;
DROP TABLE old_session_events;
DROP TABLE old_session_leases;
DROP TABLE old_seats;
DROP TABLE old_live_sessions;
DROP TABLE old_sessions;
