-- Hosts without our agent, workspaces that name a server, and sessions whose stream goes another way than through a tunnel of its own.

-- agent | peer
ALTER TABLE hosts ADD COLUMN kind TEXT NOT NULL DEFAULT 'agent';

-- Where a workspace's own server is: a port of a host, or a name the configuration allows.
ALTER TABLE workspaces ADD COLUMN target_host TEXT;
ALTER TABLE workspaces ADD COLUMN target_port INTEGER;
ALTER TABLE workspaces ADD COLUMN target_direct TEXT;
-- What the gateway proves to that server, sealed.
ALTER TABLE workspaces ADD COLUMN password_sealed TEXT;

-- own | host | direct NAME
ALTER TABLE sessions ADD COLUMN way TEXT NOT NULL DEFAULT 'own';

-- Sessions through one host's tunnel share its address: only addresses of tunnels of their own are unique. A column's own UNIQUE cannot be
-- dropped in SQLite, so the table is made again.
CREATE TABLE live_sessions_new (
    session_id TEXT NOT NULL PRIMARY KEY REFERENCES sessions (id),
    organization_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    host_id TEXT NOT NULL,
    address TEXT NOT NULL,
    way TEXT NOT NULL
);
INSERT INTO live_sessions_new (session_id, organization_id, user_id, workspace_id, host_id, address, way)
SELECT session_id, organization_id, user_id, workspace_id, host_id, address, 'own' FROM live_sessions;
DROP TABLE live_sessions;
ALTER TABLE live_sessions_new RENAME TO live_sessions;
CREATE UNIQUE INDEX live_sessions_addresses ON live_sessions (address) WHERE way = 'own';
CREATE INDEX live_sessions_of_organization ON live_sessions (organization_id);
CREATE INDEX live_sessions_of_user ON live_sessions (user_id);
CREATE INDEX live_sessions_of_workspace ON live_sessions (workspace_id);
CREATE INDEX live_sessions_of_host ON live_sessions (host_id);
