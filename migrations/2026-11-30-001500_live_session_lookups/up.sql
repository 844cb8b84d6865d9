-- The order of the list of live sessions, so that it is read in pages.
ALTER TABLE live_sessions ADD COLUMN created_at BIGINT NOT NULL DEFAULT 0;
UPDATE live_sessions SET
    created_at = (SELECT sessions.created_at FROM sessions WHERE sessions.id = live_sessions.session_id);
CREATE INDEX live_sessions_by_creation ON live_sessions (organization_id, created_at, session_id);
-- A launch asks whether an address is free; the unique index has only those of the sessions' own tunnels.
CREATE INDEX live_sessions_by_address ON live_sessions (address);
