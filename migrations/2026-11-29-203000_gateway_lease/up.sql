-- Which gateway serves from this database: at most one row. Its holder renews it every few seconds; a holder whose counter stands still for long is
-- replaced. The times are for people: clocks of several machines are not compared.
CREATE TABLE gateway_lease (
    name TEXT NOT NULL PRIMARY KEY CHECK (name = 'gateway'),
    holder TEXT NOT NULL,
    holder_name TEXT NOT NULL,
    -- The file that the holder keeps locked while it runs: whoever holds that lock knows that the holder has ended.
    lock_id TEXT NOT NULL,
    acquired_at BIGINT NOT NULL,
    heartbeat_at BIGINT NOT NULL,
    heartbeats BIGINT NOT NULL
);
