-- How long sessions of a workspace last, how far they can be extended, and how long they may be idle, as JSON in
-- seconds. A missing member: as the installation is configured.
ALTER TABLE workspaces ADD COLUMN session_limits TEXT NOT NULL DEFAULT '{}';
