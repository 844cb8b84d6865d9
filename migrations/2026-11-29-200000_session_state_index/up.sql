-- The words of an API are not stored: listings filter by state and reason.
DROP INDEX sessions_of_user_by_status;
ALTER TABLE sessions DROP COLUMN status;
CREATE INDEX sessions_of_user_by_state ON sessions (user_id, state, created_at, id);
