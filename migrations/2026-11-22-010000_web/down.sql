DROP TABLE app_request_counts;
DROP TABLE app_requests;
