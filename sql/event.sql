/*
 * Sinks: stored credentials, repeating a notification.
 */

CREATE FUNCTION esim_set_credential(name text, kind text, value text, owner regrole DEFAULT NULL) RETURNS void
AS 'MODULE_PATHNAME', 'esim_set_credential' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_set_credential(text, text, text, regrole) IS
'Stores a credential for sinks under a name of the owner (the current role), or replaces it; sink_credential names it as {"name": "..."}, for operations of that owner. kind bearer: value is the token of the header Authorization. kind webhook-secret: messages are signed as Standard Webhooks have it (webhook-id, webhook-timestamp, webhook-signature: v1 and the HMAC-SHA256); value is whsec_ and the base64 of 24 to 64 bytes. Nobody can read it again. Errors: ES400; ES404 for an owner that one is no member of.';

CREATE FUNCTION esim_drop_credential(name text, owner regrole DEFAULT NULL) RETURNS boolean
AS 'MODULE_PATHNAME', 'esim_drop_credential' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_drop_credential(text, regrole) IS
'Removes a stored credential of the owner (the current role); returns whether there was one. Notifications that need it fail and are tried again until esim.sink_give_up.';

CREATE FUNCTION esim_redeliver(notification uuid) RETURNS boolean
AS 'MODULE_PATHNAME', 'esim_redeliver' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_redeliver(uuid) IS
'Sends a notification again, with the same identifier, whatever became of it; esim.sink_give_up counts anew. False: it is due at this moment anyway. For members of the operation''s owner, and for all notifications with the scope admin. Errors: NOT_FOUND; INCOMPATIBLE_STATE where it was delivered with an access token of its own, which is kept no longer than that.';
