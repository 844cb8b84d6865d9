-- What was asked of web applications, one row a request, for admins. Written in batches, read newest first within one session: the key serves
-- both, and no other index is needed, however many rows there are.
CREATE TABLE app_requests (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    -- Place within the session, from 1.
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    method TEXT NOT NULL,
    -- Without its query, at most 512 bytes.
    path TEXT NOT NULL,
    -- What the browser was answered; 0: nothing.
    status INTEGER NOT NULL,
    bytes_in BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    ended TEXT NOT NULL,
    PRIMARY KEY (session_id, seq)
);

-- The last place given out in each session: two gateways that write for one session wait here for each other.
CREATE TABLE app_request_counts (
    session_id TEXT NOT NULL PRIMARY KEY REFERENCES sessions (id),
    last_seq BIGINT NOT NULL
);
