ALTER TABLE hosts DROP COLUMN drained_at;
