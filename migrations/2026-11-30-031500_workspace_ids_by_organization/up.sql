-- A workspace's id is unique in its organization: who creates one learns nothing about those of others.
DROP INDEX workspaces_in_use;
CREATE UNIQUE INDEX workspaces_in_use ON workspaces (organization_id, id) WHERE deleted_at IS NULL;
-- A seat is named by its workspace: the organization's id and a slash come first.
UPDATE seats SET seat = (SELECT sessions.organization_id FROM sessions WHERE sessions.id = seats.session_id) || '/' || seat;
