DROP TABLE gateway_lease;
