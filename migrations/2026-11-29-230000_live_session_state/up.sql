-- State and expiry of live sessions beside their other lookups, so that the reconciler reads only those that are due.
ALTER TABLE live_sessions ADD COLUMN state TEXT NOT NULL DEFAULT 'active';
ALTER TABLE live_sessions ADD COLUMN expires_at BIGINT NOT NULL DEFAULT 0;
UPDATE live_sessions SET
    state = (SELECT sessions.state FROM sessions WHERE sessions.id = live_sessions.session_id),
    expires_at = (SELECT sessions.expires_at FROM sessions WHERE sessions.id = live_sessions.session_id);
CREATE INDEX live_sessions_of_state ON live_sessions (state);
CREATE INDEX live_sessions_by_expiry ON live_sessions (expires_at);
-- Counted by host for placement and the list of hosts.
DROP INDEX live_sessions_of_organization;
CREATE INDEX live_sessions_of_organization ON live_sessions (organization_id, host_id);
