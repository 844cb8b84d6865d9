ALTER TABLE workspaces DROP COLUMN session_limits;
