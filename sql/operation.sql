/*
 * Functions that make operations, and those that look at and end them.
 *
 * No name has two signatures.  The parameters behind the own ones are the same
 * everywhere; see README.md.  All but esim_wait() run with the rights of the
 * extension's owner inside, after they have looked at who calls.
 */

CREATE FUNCTION esim_download(
	eid eid, iccid iccid DEFAULT NULL, activation_code activation_code DEFAULT NULL,
	activate_on_download boolean DEFAULT false, confirmation_code text DEFAULT NULL,
	profile uuid DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS uuid
AS 'MODULE_PATHNAME', 'esim_download' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_download IS
'Queues the download of a profile to an eUICC; it ends there DISABLED, with activate_on_download ENABLED. The activation code is that of the call, else of the profile''s row, else made of the server''s smdp_address. An ICCID that is not known is added to esim_profile; NULL where the RSP assigns it. Errors: IDENTIFIER_NOT_FOUND (unknown device), INCOMPATIBLE_STATE (installed there, or deleted and not to be downloaded again), IDENTIFIER_MISMATCH (bound to another eUICC), MISSING_IDENTIFIER (no activation code). Returns the operation, which is carried out after COMMIT.';

CREATE FUNCTION esim_download_many(
	eids eid[], iccids iccid[] DEFAULT NULL, activation_codes activation_code[] DEFAULT NULL,
	activate_on_download boolean DEFAULT false, confirmation_codes text[] DEFAULT NULL,
	profiles uuid[] DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}',
	on_error text DEFAULT 'abort')
RETURNS TABLE (ordinal integer, operation uuid, sqlstate text, code text, message text)
AS 'MODULE_PATHNAME', 'esim_download_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_download_many IS
'esim_download() for arrays of equal length, at most 1,000,000 elements; one row per element in their order. on_error: abort (the first error is raised) or report (it stands in its row, the others are queued). Lanes are locked in the order of the EIDs. The idempotency key of an element is the one given, a colon and the ordinal.';

CREATE FUNCTION esim_enable(
	iccid iccid DEFAULT NULL, eid eid DEFAULT NULL, rollback boolean DEFAULT true,
	profile uuid DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS uuid
AS 'MODULE_PATHNAME', 'esim_enable' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_enable IS
'Queues enabling a profile on the eUICC where it is; the one enabled so far on the same port becomes DISABLED. rollback: back to that one if the new one gets no connection, where the protocol has it. Errors: INCOMPATIBLE_STATE unless it is, or will be, DISABLED or INSTALLED; IDENTIFIER_NOT_FOUND; IDENTIFIER_MISMATCH if it is not on the EID given. Returns the operation, which is carried out after COMMIT.';

CREATE FUNCTION esim_enable_many(
	iccids iccid[] DEFAULT NULL, eids eid[] DEFAULT NULL, rollback boolean DEFAULT true,
	profiles uuid[] DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}',
	on_error text DEFAULT 'abort')
RETURNS TABLE (ordinal integer, operation uuid, sqlstate text, code text, message text)
AS 'MODULE_PATHNAME', 'esim_enable_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_enable_many IS
'esim_enable() for arrays of equal length, at most 1,000,000 elements; one row per element in their order. on_error: abort (the first error is raised) or report (it stands in its row, the others are queued). Lanes are locked in the order of the EIDs. The idempotency key of an element is the one given, a colon and the ordinal.';

CREATE FUNCTION esim_disable(
	iccid iccid DEFAULT NULL, eid eid DEFAULT NULL,
	profile uuid DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS uuid
AS 'MODULE_PATHNAME', 'esim_disable' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_disable IS
'Queues disabling a profile. Errors: INCOMPATIBLE_STATE unless it is, or will be, ENABLED or INSTALLED; IDENTIFIER_NOT_FOUND; IDENTIFIER_MISMATCH if it is not on the EID given. esim.lockout_guard says what happens to the only enabled profile of an eUICC. Returns the operation, which is carried out after COMMIT.';

CREATE FUNCTION esim_disable_many(
	iccids iccid[] DEFAULT NULL, eids eid[] DEFAULT NULL,
	profiles uuid[] DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}',
	on_error text DEFAULT 'abort')
RETURNS TABLE (ordinal integer, operation uuid, sqlstate text, code text, message text)
AS 'MODULE_PATHNAME', 'esim_disable_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_disable_many IS
'esim_disable() for arrays of equal length, at most 1,000,000 elements; one row per element in their order. on_error: abort (the first error is raised) or report (it stands in its row, the others are queued). Lanes are locked in the order of the EIDs. The idempotency key of an element is the one given, a colon and the ordinal.';

CREATE FUNCTION esim_delete(
	iccid iccid DEFAULT NULL, eid eid DEFAULT NULL,
	profile uuid DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS uuid
AS 'MODULE_PATHNAME', 'esim_delete' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_delete IS
'Queues deleting a profile from its eUICC, irreversibly; an ENABLED one is disabled first. Errors: INCOMPATIBLE_STATE unless it is, or will be, on the eUICC; IDENTIFIER_NOT_FOUND; IDENTIFIER_MISMATCH if it is not on the EID given. esim.lockout_guard says what happens to the only enabled profile of an eUICC. Returns the operation, which is carried out after COMMIT.';

CREATE FUNCTION esim_delete_many(
	iccids iccid[] DEFAULT NULL, eids eid[] DEFAULT NULL,
	profiles uuid[] DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}',
	on_error text DEFAULT 'abort')
RETURNS TABLE (ordinal integer, operation uuid, sqlstate text, code text, message text)
AS 'MODULE_PATHNAME', 'esim_delete_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_delete_many IS
'esim_delete() for arrays of equal length, at most 1,000,000 elements; one row per element in their order. on_error: abort (the first error is raised) or report (it stands in its row, the others are queued). Lanes are locked in the order of the EIDs. The idempotency key of an element is the one given, a colon and the ordinal.';

CREATE FUNCTION esim_set_fallback(
	eid eid DEFAULT NULL, iccid iccid DEFAULT NULL,
	profile uuid DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS uuid
AS 'MODULE_PATHNAME', 'esim_set_fallback' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_set_fallback IS
'Queues giving a profile the fallback attribute, which is taken from the one that has it. ICCID or profile is required, the EID only checks. Errors: MISSING_IDENTIFIER; INCOMPATIBLE_STATE (camara: unless it is, or will be, DISABLED or INSTALLED); IDENTIFIER_NOT_FOUND; IDENTIFIER_MISMATCH. Returns the operation, which is carried out after COMMIT.';

CREATE FUNCTION esim_set_fallback_many(
	eids eid[] DEFAULT NULL, iccids iccid[] DEFAULT NULL,
	profiles uuid[] DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}',
	on_error text DEFAULT 'abort')
RETURNS TABLE (ordinal integer, operation uuid, sqlstate text, code text, message text)
AS 'MODULE_PATHNAME', 'esim_set_fallback_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_set_fallback_many IS
'esim_set_fallback() for arrays of equal length, at most 1,000,000 elements; one row per element in their order. on_error: abort (the first error is raised) or report (it stands in its row, the others are queued). Lanes are locked in the order of the EIDs. The idempotency key of an element is the one given, a colon and the ordinal.';

CREATE FUNCTION esim_unset_fallback(
	eid eid,
	profile uuid DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS uuid
AS 'MODULE_PATHNAME', 'esim_unset_fallback' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_unset_fallback IS
'Queues taking the fallback attribute from whichever profile of the eUICC has it. Errors: IDENTIFIER_NOT_FOUND; SERVICE_NOT_APPLICABLE where the protocol does not have it (camara). Returns the operation, which is carried out after COMMIT.';

CREATE FUNCTION esim_unset_fallback_many(
	eids eid[],
	profiles uuid[] DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}',
	on_error text DEFAULT 'abort')
RETURNS TABLE (ordinal integer, operation uuid, sqlstate text, code text, message text)
AS 'MODULE_PATHNAME', 'esim_unset_fallback_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_unset_fallback_many IS
'esim_unset_fallback() for arrays of equal length, at most 1,000,000 elements; one row per element in their order. on_error: abort (the first error is raised) or report (it stands in its row, the others are queued). Lanes are locked in the order of the EIDs. The idempotency key of an element is the one given, a colon and the ordinal.';

CREATE FUNCTION esim_refresh(
	eid eid,
	profile uuid DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS uuid
AS 'MODULE_PATHNAME', 'esim_refresh' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_refresh IS
'Queues asking the RSP for all profiles of an eUICC and their states. Always allowed. Errors: IDENTIFIER_NOT_FOUND. Returns the operation, which is carried out after COMMIT.';

CREATE FUNCTION esim_refresh_many(
	eids eid[],
	profiles uuid[] DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}',
	on_error text DEFAULT 'abort')
RETURNS TABLE (ordinal integer, operation uuid, sqlstate text, code text, message text)
AS 'MODULE_PATHNAME', 'esim_refresh_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_refresh_many IS
'esim_refresh() for arrays of equal length, at most 1,000,000 elements; one row per element in their order. on_error: abort (the first error is raised) or report (it stands in its row, the others are queued). Lanes are locked in the order of the EIDs. The idempotency key of an element is the one given, a colon and the ordinal.';

CREATE FUNCTION esim_reserve(
	eid eid DEFAULT NULL, generate_matching_id boolean DEFAULT false, iccid iccid DEFAULT NULL,
	profile_type text DEFAULT NULL, matching_id text DEFAULT NULL, confirmation_code text DEFAULT NULL,
	smds_address text DEFAULT NULL, release boolean DEFAULT true,
	profile uuid DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS uuid
AS 'MODULE_PATHNAME', 'esim_reserve' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_reserve IS
'Queues the reservation of a profile at the server that prepares it: for an eUICC (eid), with a MatchingID that the server makes (generate_matching_id) or that is given, of a type, or the one with that ICCID; what a protocol needs of these differs (esim_capabilities()). For an eUICC its device''s server is meant if that reserves profiles. The row in esim_profile is there at once, RESERVING, and its id stands in esim_operation.profile: later operations name it by the parameter profile. It becomes RELEASED, or RESERVED where release is false (ES2+ releaseFlag; see esim_release()). profile names a row whose reservation was not carried out. Errors: MISSING_IDENTIFIER if nothing says which; INCOMPATIBLE_STATE if the ICCID is that of a profile; IDENTIFIER_NOT_FOUND (unknown device); SERVICE_NOT_APPLICABLE. Returns the operation, which is carried out after COMMIT.';

CREATE FUNCTION esim_reserve_many(
	eids eid[] DEFAULT NULL, generate_matching_id boolean DEFAULT false, iccids iccid[] DEFAULT NULL,
	profile_type text DEFAULT NULL, matching_ids text[] DEFAULT NULL, confirmation_codes text[] DEFAULT NULL,
	smds_address text DEFAULT NULL, release boolean DEFAULT true,
	profiles uuid[] DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}',
	on_error text DEFAULT 'abort')
RETURNS TABLE (ordinal integer, operation uuid, sqlstate text, code text, message text)
AS 'MODULE_PATHNAME', 'esim_reserve_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_reserve_many IS
'esim_reserve() for arrays of equal length, at most 1,000,000 elements; one row per element in their order. on_error: abort (the first error is raised) or report (it stands in its row, the others are queued). Where nothing differs between the profiles, eids or iccids may be an array of NULLs, whose length says how many. Lanes are locked in their order. The idempotency key of an element is the one given, a colon and the ordinal.';

CREATE FUNCTION esim_release(
	iccid iccid DEFAULT NULL,
	profile uuid DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS uuid
AS 'MODULE_PATHNAME', 'esim_release' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_release IS
'Queues the release of a profile that was reserved with release => false (ES2+ ReleaseProfile): from then on it can be downloaded. Errors: INCOMPATIBLE_STATE unless it is, or will be, RESERVED; IDENTIFIER_NOT_FOUND; SERVICE_NOT_APPLICABLE where the server does not do it. Returns the operation, which is carried out after COMMIT.';

CREATE FUNCTION esim_release_many(
	iccids iccid[] DEFAULT NULL,
	profiles uuid[] DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}',
	on_error text DEFAULT 'abort')
RETURNS TABLE (ordinal integer, operation uuid, sqlstate text, code text, message text)
AS 'MODULE_PATHNAME', 'esim_release_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_release_many IS
'esim_release() for arrays of equal length, at most 1,000,000 elements; one row per element in their order. on_error: abort (the first error is raised) or report (it stands in its row, the others are queued). Lanes are locked in their order. The idempotency key of an element is the one given, a colon and the ordinal.';

CREATE FUNCTION esim_cancel_order(
	iccid iccid DEFAULT NULL, final_status text DEFAULT 'Available',
	profile uuid DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS uuid
AS 'MODULE_PATHNAME', 'esim_cancel_order' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_cancel_order IS
'Queues taking back the order of a profile (ES2+ CancelOrder); it ends CANCELLED. final_status: Available (back to stock) or Unavailable (never again). An unfinished download of it must be cancelled first, unless that only waits for the device. Errors: INCOMPATIBLE_STATE unless it is, or will be, RESERVED, RELEASED or FAILED; IDENTIFIER_NOT_FOUND; SERVICE_NOT_APPLICABLE where the server does not do it. Returns the operation, which is carried out after COMMIT.';

CREATE FUNCTION esim_cancel_order_many(
	iccids iccid[] DEFAULT NULL, final_status text DEFAULT 'Available',
	profiles uuid[] DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}',
	on_error text DEFAULT 'abort')
RETURNS TABLE (ordinal integer, operation uuid, sqlstate text, code text, message text)
AS 'MODULE_PATHNAME', 'esim_cancel_order_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_cancel_order_many IS
'esim_cancel_order() for arrays of equal length, at most 1,000,000 elements; one row per element in their order. on_error: abort (the first error is raised) or report (it stands in its row, the others are queued). Lanes are locked in their order. The idempotency key of an element is the one given, a colon and the ordinal.';

CREATE FUNCTION esim_set_subscription(
	iccid iccid DEFAULT NULL, status esim_subscription_status DEFAULT NULL, fleet text DEFAULT NULL,
	profile uuid DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS uuid
AS 'MODULE_PATHNAME', 'esim_set_subscription' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_set_subscription IS
'Queues a change of a profile''s subscription in the network: its status (READY, ACTIVE, INACTIVE), its fleet, or both at once. Whether the profile is on an eUICC does not matter; behind its reservation it waits for that. READY can be set from NEW only, READY and ACTIVE need a fleet (of the profile''s row, of an operation ahead, or of this call), and nothing changes while it is SCHEDULED. Errors: INCOMPATIBLE_STATE; INVALID_ARGUMENT; MISSING_IDENTIFIER while its ICCID is not known and nothing ahead tells it; IDENTIFIER_NOT_FOUND; SERVICE_NOT_APPLICABLE where the server does not do it. Returns the operation, which is carried out after COMMIT.';

CREATE FUNCTION esim_set_subscription_many(
	iccids iccid[] DEFAULT NULL, status esim_subscription_status DEFAULT NULL, fleet text DEFAULT NULL,
	profiles uuid[] DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}',
	on_error text DEFAULT 'abort')
RETURNS TABLE (ordinal integer, operation uuid, sqlstate text, code text, message text)
AS 'MODULE_PATHNAME', 'esim_set_subscription_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_set_subscription_many IS
'esim_set_subscription() for arrays of equal length, at most 1,000,000 elements; one row per element in their order. on_error: abort (the first error is raised) or report (it stands in its row, the others are queued). Lanes are locked in their order. The idempotency key of an element is the one given, a colon and the ordinal.';

CREATE FUNCTION esim_assign_fleet(
	iccid iccid DEFAULT NULL, fleet text DEFAULT NULL,
	profile uuid DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS uuid
AS 'MODULE_PATHNAME', 'esim_assign_fleet' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_assign_fleet IS
'Queues the assignment of a profile''s subscription to a fleet, by its name. One that esim_fleet_create() is still to make is waited for. Errors: INCOMPATIBLE_STATE while the subscription is SCHEDULED; INVALID_ARGUMENT; MISSING_IDENTIFIER; IDENTIFIER_NOT_FOUND; SERVICE_NOT_APPLICABLE where the server does not do it. Returns the operation, which is carried out after COMMIT.';

CREATE FUNCTION esim_assign_fleet_many(
	iccids iccid[] DEFAULT NULL, fleet text DEFAULT NULL,
	profiles uuid[] DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}',
	on_error text DEFAULT 'abort')
RETURNS TABLE (ordinal integer, operation uuid, sqlstate text, code text, message text)
AS 'MODULE_PATHNAME', 'esim_assign_fleet_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_assign_fleet_many IS
'esim_assign_fleet() for arrays of equal length, at most 1,000,000 elements; one row per element in their order. on_error: abort (the first error is raised) or report (it stands in its row, the others are queued). Lanes are locked in their order. The idempotency key of an element is the one given, a colon and the ordinal.';

CREATE FUNCTION esim_fleet_create(
	name text, settings jsonb DEFAULT '{}',
	profile uuid DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS uuid
AS 'MODULE_PATHNAME', 'esim_fleet_create' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_fleet_create IS
'Queues making a fleet of subscriptions; its row in esim_fleet is there at once and belongs to the current role. settings: a JSON object, the names are the server''s (Super SIM: NetworkAccessProfile, which it requires, DataEnabled, DataLimit, ...). A fleet whose making has failed can be made again. Errors: ALREADY_EXISTS; INVALID_ARGUMENT; OUT_OF_RANGE; SERVICE_NOT_APPLICABLE where the server does not do it. Returns the operation, which is carried out after COMMIT.';

CREATE FUNCTION esim_fleet_create_many(
	names text[], settings jsonb DEFAULT '{}',
	profiles uuid[] DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}',
	on_error text DEFAULT 'abort')
RETURNS TABLE (ordinal integer, operation uuid, sqlstate text, code text, message text)
AS 'MODULE_PATHNAME', 'esim_fleet_create_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_fleet_create_many IS
'esim_fleet_create() for arrays of equal length, at most 1,000,000 elements; one row per element in their order. on_error: abort (the first error is raised) or report (it stands in its row, the others are queued). Lanes are locked in their order. The idempotency key of an element is the one given, a colon and the ordinal.';

CREATE FUNCTION esim_sync(
	from_server text,
	profile uuid DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS uuid
AS 'MODULE_PATHNAME', 'esim_sync' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_sync IS
'Queues taking over what the current role has at a server: profiles, subscriptions, fleets (Super SIM). It can be repeated; two syncs of one role with one server follow one another. Servers that list one eUICC at a time (camara, eim): a refresh of each registered device that the caller may act for is queued, unless one waits already, and the operation itself ends at once with SUCCESS and their number in error_message. Errors: UNAVAILABLE (no such server); PERMISSION_DENIED without USAGE on it; SERVICE_NOT_APPLICABLE where the protocol has nothing to ask (es2plus). Returns the operation, which is carried out after COMMIT.';

CREATE FUNCTION esim_sync_many(
	from_servers text[],
	profiles uuid[] DEFAULT NULL,
	server text DEFAULT NULL, correlator text DEFAULT NULL, sink text DEFAULT NULL,
	sink_credential jsonb DEFAULT NULL, callback_url text DEFAULT NULL, callback_method text DEFAULT 'GET',
	priority smallint DEFAULT 0, not_before timestamptz DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
	idempotency_key text DEFAULT NULL, options jsonb DEFAULT '{}',
	on_error text DEFAULT 'abort')
RETURNS TABLE (ordinal integer, operation uuid, sqlstate text, code text, message text)
AS 'MODULE_PATHNAME', 'esim_sync_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_sync_many IS
'esim_sync() for arrays of equal length, at most 1,000,000 elements; one row per element in their order. on_error: abort (the first error is raised) or report (it stands in its row, the others are queued). The idempotency key of an element is the one given, a colon and the ordinal.';

CREATE FUNCTION esim_status(eid eid DEFAULT NULL, iccid iccid DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS TABLE (eid eid, iccid iccid, profile uuid, state esim_profile_state, is_fallback boolean,
			   subscription_status esim_subscription_status, msisdn text, state_at timestamptz, state_source text)
AS 'MODULE_PATHNAME', 'esim_status' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION esim_status IS
'The profiles of an eUICC, or the one with that ICCID, as last known; nothing is asked of the RSP (see esim_refresh). options: {"all": true} shows deleted, cancelled and failed ones too. Errors: MISSING_IDENTIFIER without both, IDENTIFIER_NOT_FOUND, IDENTIFIER_MISMATCH.';

CREATE FUNCTION esim_operation_status(id uuid, dialect text DEFAULT 'r1.2') RETURNS jsonb
AS 'MODULE_PATHNAME', 'esim_operation_status' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_operation_status IS
'An operation in the shape of CAMARA''s API: dialect r1.2 (ESimProfileResponse) or 2026-02 (ESimResponse). r1.2 has no cancelled outcome: it is shown as FAILED with failureReason ''cancelled''. Errors: NOT_FOUND.';

CREATE FUNCTION esim_wait(id uuid, wait interval DEFAULT '60 s') RETURNS esim_operation
AS 'MODULE_PATHNAME', 'esim_wait' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_wait IS
'Waits until an operation has completed, and returns its row; at the time-out the row as it stands, with a NOTICE. Runs with the caller''s rights. Errors: NOT_FOUND; 55000 for an operation of the same transaction, which cannot begin before COMMIT.';

CREATE FUNCTION esim_cancel(id uuid) RETURNS boolean
AS 'MODULE_PATHNAME', 'esim_cancel' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_cancel IS
'Takes an operation back. Not sent yet: it ends CANCELLED at once, together with those that need its success (DEPENDENCY_FAILED), and the result is true. A download that only waits for its device at an SM-DP+: a cancel-order is queued (final status Available), and the download ends CANCELLED when that has succeeded (true: asked). One whose order waits at an eIM ends CANCELLED when the eIM says that no device fetched the order, else it goes on (true: asked). One that was queued before a promotion ends CANCELLED when the RSP has shown that the former primary did not send it, else it goes on (true: asked). False: it has completed already. Errors: NOT_FOUND; INCOMPATIBLE_STATE where it was sent and cannot be taken back.';

CREATE FUNCTION esim_retry(ids uuid[])
RETURNS TABLE (ordinal integer, operation uuid, sqlstate text, code text, message text)
AS 'MODULE_PATHNAME', 'esim_retry' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_retry IS
'Makes new operations with the same parameters for operations that ended FAILED or CANCELLED (retry_of names them); not_before and expires_at begin anew. One row per element; what cannot be repeated has its error there.';
