-- Fails while two organizations have a workspace of one id.
DROP INDEX workspaces_in_use;
CREATE UNIQUE INDEX workspaces_in_use ON workspaces (id) WHERE deleted_at IS NULL;
-- An organization's id has 36 characters.
UPDATE seats SET seat = substr(seat, 38);
