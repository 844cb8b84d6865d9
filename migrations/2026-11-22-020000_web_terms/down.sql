-- A web application cannot be met in the older schema: its workspace names no server any more, and nothing is kept for one.
UPDATE workspaces SET target_host = NULL, target_port = NULL, target_direct = NULL, target_service = NULL, server = '{}', password_sealed = NULL
WHERE kind = 'html5';
DELETE FROM user_credentials WHERE workspace_row IN (SELECT row_id FROM workspaces WHERE kind = 'html5');
DELETE FROM workspace_certificates WHERE workspace_row IN (SELECT row_id FROM workspaces WHERE kind = 'html5');
ALTER TABLE workspaces DROP COLUMN web;
