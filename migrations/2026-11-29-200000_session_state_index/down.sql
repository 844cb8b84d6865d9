DROP INDEX sessions_of_user_by_state;
ALTER TABLE sessions ADD COLUMN status TEXT;
UPDATE sessions SET status = CASE
    WHEN state IN ('active', 'closing') THEN 'active'
    WHEN state = 'closed' AND reason = 'user_disconnected' THEN 'disconnected'
    WHEN state = 'closed' THEN 'terminated'
END;
CREATE INDEX sessions_of_user_by_status ON sessions (user_id, status, created_at, id);
