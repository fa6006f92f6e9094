/*
 * Activation codes of profiles, and their QR codes.
 */

CREATE FUNCTION esim_qr(code activation_code, inverse boolean DEFAULT false) RETURNS text
AS 'MODULE_PATHNAME', 'esim_qr' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_qr(activation_code, boolean) IS
'The QR code of an activation code (LPA: form) in UTF-8 block characters, for a terminal that shows light letters on a dark ground; inverse: for dark letters on a light ground. Print it without frame (psql: \pset format unaligned, \pset tuples_only). Level M of error correction, with its quiet zone.';

CREATE FUNCTION esim_qr_svg(code activation_code, module integer DEFAULT 4, level text DEFAULT 'M') RETURNS text
AS 'MODULE_PATHNAME', 'esim_qr_svg' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_qr_svg(activation_code, integer, text) IS
'The QR code of an activation code (LPA: form) as an SVG document. module: pixels a module, 1 to 64; level of error correction: L, M, Q, H. Errors: OUT_OF_RANGE, INVALID_ARGUMENT (ES400).';

CREATE FUNCTION esim_qr_png(code activation_code, module integer DEFAULT 4, level text DEFAULT 'M') RETURNS bytea
AS 'MODULE_PATHNAME', 'esim_qr_png' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_qr_png(activation_code, integer, text) IS
'The QR code of an activation code (LPA: form) as a PNG file, one bit a pixel. module: pixels a module, 1 to 64; level of error correction: L, M, Q, H. Errors: OUT_OF_RANGE, INVALID_ARGUMENT (ES400).';

/*
 * Runs with the caller's rights: row-level security decides which profiles
 * there are.
 */
CREATE FUNCTION esim_activation_code(iccid iccid DEFAULT NULL, profile uuid DEFAULT NULL) RETURNS activation_code
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	found @extschema@.esim_profile[];
	chosen @extschema@.esim_profile;
BEGIN
	IF esim_activation_code.iccid IS NULL AND esim_activation_code.profile IS NULL THEN
		RAISE EXCEPTION 'no profile is named'
		USING ERRCODE = 'ES422',
			DETAIL = 'MISSING_IDENTIFIER: Neither an ICCID nor a profile''s id is given.',
			HINT = 'Give iccid => or profile =>.';
	END IF;

	-- live ones before the history of an ICCID
	IF esim_activation_code.profile IS NOT NULL THEN
		found := ARRAY(SELECT p FROM @extschema@.esim_profile p WHERE p.id = esim_activation_code.profile);
	ELSE
		found := ARRAY(
			SELECT p FROM @extschema@.esim_profile p
			WHERE p.iccid OPERATOR(@extschema@.=) esim_activation_code.iccid
			ORDER BY p.state IN ('DELETED', 'CANCELLED', 'FAILED'), p.created_at DESC
			LIMIT 2);
	END IF;
	IF cardinality(found) = 0 THEN
		RAISE EXCEPTION 'profile is not known'
		USING ERRCODE = 'ES404',
			DETAIL = 'IDENTIFIER_NOT_FOUND: There is no such profile, or it is another owner''s.',
			HINT = 'esim_inventory shows the profiles that the current role sees.';
	END IF;
	chosen := found[1];
	IF chosen.iccid OPERATOR(@extschema@.<>) esim_activation_code.iccid THEN
		RAISE EXCEPTION 'profile has another ICCID'
		USING ERRCODE = 'ES422',
			DETAIL = 'IDENTIFIER_MISMATCH: The profile''s id and the ICCID name two profiles.',
			HINT = 'Give one of them.';
	END IF;
	IF cardinality(found) > 1 AND chosen.state NOT IN ('DELETED', 'CANCELLED', 'FAILED')
		AND found[2].state NOT IN ('DELETED', 'CANCELLED', 'FAILED')
	THEN
		RAISE EXCEPTION 'there is more than one live profile with this ICCID'
		USING ERRCODE = 'ES409',
			DETAIL = 'CONFLICT: They are of different owners, or of a class that shares ICCIDs.',
			HINT = 'Name one of them with profile =>.';
	END IF;

	IF chosen.activation_code IS NOT NULL THEN
		RETURN chosen.activation_code;
	ELSIF chosen.matching_id IS NOT NULL THEN
		RETURN @extschema@.esim_build_activation_code(chosen.smdp_address, chosen.matching_id);
	ELSIF chosen.reserved_eid IS NOT NULL THEN
		-- the SM-DP+ finds it by the EID
		RETURN @extschema@.esim_build_activation_code(chosen.smdp_address);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION esim_activation_code(iccid, uuid) IS
'The activation code of a profile that the caller sees: that of its row, else made of its SM-DP+ address and matching ID; where it is reserved for an EID, of the address alone (1$<address>$). NULL while that is not known yet. Of several rows with the ICCID the live one counts. Errors: MISSING_IDENTIFIER, IDENTIFIER_NOT_FOUND (ES404), IDENTIFIER_MISMATCH, CONFLICT (two owners have it live).';
