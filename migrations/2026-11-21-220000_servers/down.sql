ALTER TABLE session_leases DROP COLUMN certificate;
DROP TABLE user_credentials;
DROP TABLE workspace_certificates;
-- A service cannot be told in the older schema: its workspace names no server any more.
UPDATE workspaces SET target_host = NULL WHERE target_service IS NOT NULL;
ALTER TABLE workspaces DROP COLUMN server;
ALTER TABLE workspaces DROP COLUMN read_only;
ALTER TABLE workspaces DROP COLUMN files;
ALTER TABLE workspaces DROP COLUMN clipboard;
ALTER TABLE workspaces DROP COLUMN target_service;
