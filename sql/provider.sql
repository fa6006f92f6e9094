/*
 * The database as a provider of CAMARA's eSIM APIs.
 */

CREATE FUNCTION esim_camara(method text, path text, headers jsonb, body text,
	OUT status integer, OUT headers jsonb, OUT body text)
AS 'MODULE_PATHNAME', 'esim_camara' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION esim_camara(text, text, jsonb, text) IS
'Answers a request to CAMARA''s eSIM API with the rights of the current role: the HTTP front end has checked the token and has become the role of its owner (SET ROLE). path decides the dialect: /esim-profile-management/vwip/... is r1.2, /esim/vwip/esim/... is 2026-02. headers: an object of names (of any case) with a text or an array of texts each; Authorization, x-correlator and Content-Type are read. Errors of the request are answers, with ErrorInfo as body. The answer is to be sent after COMMIT.';
