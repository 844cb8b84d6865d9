-- How the web application of an html5 workspace is met, as JSON: scheme, name, start path, what it is told of the user, sign-in, request policy.
-- No secret is in it: the credential is the workspace's (password_sealed) or the user's (user_credentials).
ALTER TABLE workspaces ADD COLUMN web TEXT NOT NULL DEFAULT '{}';
