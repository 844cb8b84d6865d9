DROP INDEX live_sessions_by_address;
DROP INDEX live_sessions_by_creation;
ALTER TABLE live_sessions DROP COLUMN created_at;
