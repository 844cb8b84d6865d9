-- Workspaces whose server the gateway proves itself to, what their streams may carry, and credentials of users.

-- A service of a host with an agent, by name; target_host says which.
ALTER TABLE workspaces ADD COLUMN target_service TEXT;

-- What streams may carry: none | in | out | both; files; whether input is held back.
ALTER TABLE workspaces ADD COLUMN clipboard TEXT NOT NULL DEFAULT 'both';
ALTER TABLE workspaces ADD COLUMN files BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE workspaces ADD COLUMN read_only BOOLEAN NOT NULL DEFAULT FALSE;

-- How the gateway meets the server, as JSON: where the credential comes from, its account name, how the certificate is checked.
ALTER TABLE workspaces ADD COLUMN server TEXT NOT NULL DEFAULT '{}';

-- What a server showed: standing is pinned (recorded at first use, or accepted) or offered (refused, the last one).
CREATE TABLE workspace_certificates (
    workspace_row TEXT NOT NULL REFERENCES workspaces (row_id) ON DELETE CASCADE,
    standing TEXT NOT NULL,
    -- SHA-256, hex.
    fingerprint TEXT NOT NULL,
    subject TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (workspace_row, standing)
);

-- A user's own credential for a workspace's server, sealed. By the row, not the slug: a slug may come back for another workspace.
CREATE TABLE user_credentials (
    workspace_row TEXT NOT NULL REFERENCES workspaces (row_id) ON DELETE CASCADE,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    sealed TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_row, user_id)
);
CREATE INDEX user_credentials_of_user ON user_credentials (user_id);

-- Of a desktop that was started with one: SHA-256 of its certificate, hex.
ALTER TABLE session_leases ADD COLUMN certificate TEXT;
