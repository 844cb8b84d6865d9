DROP INDEX live_sessions_of_organization;
CREATE INDEX live_sessions_of_organization ON live_sessions (organization_id);
DROP INDEX live_sessions_by_expiry;
DROP INDEX live_sessions_of_state;
ALTER TABLE live_sessions DROP COLUMN expires_at;
ALTER TABLE live_sessions DROP COLUMN state;
