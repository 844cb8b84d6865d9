-- Since when a host takes no new sessions; NULL: it takes them.
ALTER TABLE hosts ADD COLUMN drained_at BIGINT;
