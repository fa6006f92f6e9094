--
-- identifier.sql
--		Types eid, iccid and activation_code, and the functions on them.
--
-- The casts from text are explicit, and there is one from varchar too: JDBC and
-- others send text parameters as varchar, so write iccid = ?::iccid there.
--

--
-- Type eid
--

CREATE TYPE eid;

CREATE FUNCTION esim_eid_in(cstring, oid, integer) RETURNS eid
	AS 'MODULE_PATHNAME', 'esim_eid_in' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_eid_in(cstring, oid, integer) IS
	'input of type eid; looks at the check digits unless esim.check_digits is off or the type modifier is unchecked';

CREATE FUNCTION esim_eid_out(eid) RETURNS cstring
	AS 'MODULE_PATHNAME', 'esim_eid_out' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_eid_out(eid) IS 'output of type eid: the digits';

CREATE FUNCTION esim_eid_recv(internal, oid, integer) RETURNS eid
	AS 'MODULE_PATHNAME', 'esim_eid_recv' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_eid_recv(internal, oid, integer) IS
	'binary input of type eid: 16 octets, two digits each (the ASN.1 form of SGP.22 and SGP.32)';

CREATE FUNCTION esim_eid_send(eid) RETURNS bytea
	AS 'MODULE_PATHNAME', 'esim_eid_send' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_eid_send(eid) IS 'binary output of type eid: 16 octets, two digits each (the ASN.1 form of SGP.22 and SGP.32)';

CREATE FUNCTION esim_eid_typmod_in(cstring[]) RETURNS integer
	AS 'MODULE_PATHNAME', 'esim_eid_typmod_in' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_eid_typmod_in(cstring[]) IS
	'type modifier input of type eid: unchecked, nothing else';

CREATE FUNCTION esim_eid_typmod_out(integer) RETURNS cstring
	AS 'MODULE_PATHNAME', 'esim_eid_typmod_out' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_eid_typmod_out(integer) IS 'type modifier output of type eid';

CREATE TYPE eid (
	INPUT = esim_eid_in,
	OUTPUT = esim_eid_out,
	RECEIVE = esim_eid_recv,
	SEND = esim_eid_send,
	TYPMOD_IN = esim_eid_typmod_in,
	TYPMOD_OUT = esim_eid_typmod_out,
	INTERNALLENGTH = 16,
	ALIGNMENT = char,
	STORAGE = plain
);
COMMENT ON TYPE eid IS
	'identity of an eUICC: 32 digits, the last two check digits by ISO/IEC 7064 MOD 97-10 (GSMA SGP.02, SGP.29); eid(unchecked) takes others';

CREATE FUNCTION esim_eid_typmod(eid, integer, boolean) RETURNS eid
	AS 'MODULE_PATHNAME', 'esim_eid_typmod' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_eid_typmod(eid, integer, boolean) IS
	'cast of eid to a type modifier: the value as it is, since the check digits are looked at only where text is read';
CREATE CAST (eid AS eid) WITH FUNCTION esim_eid_typmod(eid, integer, boolean) AS IMPLICIT;
COMMENT ON CAST (eid AS eid) IS 'to a type modifier, changing nothing';

CREATE FUNCTION esim_eid_from_text(text, integer, boolean) RETURNS eid
	AS 'MODULE_PATHNAME', 'esim_eid_from_text' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_eid_from_text(text, integer, boolean) IS
	'cast of text to eid, to eid(unchecked) without a look at the check digits';
CREATE CAST (text AS eid) WITH FUNCTION esim_eid_from_text(text, integer, boolean);
COMMENT ON CAST (text AS eid) IS 'as the input function reads it';
CREATE CAST (varchar AS eid) WITH FUNCTION esim_eid_from_text(text, integer, boolean);
COMMENT ON CAST (varchar AS eid) IS 'as the input function reads it; JDBC sends varchar';

CREATE FUNCTION esim_eid_to_text(eid) RETURNS text
	AS 'MODULE_PATHNAME', 'esim_eid_to_text' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_eid_to_text(eid) IS 'cast of eid to text: the digits';
CREATE CAST (eid AS text) WITH FUNCTION esim_eid_to_text(eid) AS ASSIGNMENT;
COMMENT ON CAST (eid AS text) IS 'the digits';

CREATE FUNCTION esim_eid_eq(eid, eid) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_eid_eq' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_eid_eq(eid, eid) IS 'implementation of = operator';
CREATE FUNCTION esim_eid_ne(eid, eid) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_eid_ne' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_eid_ne(eid, eid) IS 'implementation of <> operator';
CREATE FUNCTION esim_eid_lt(eid, eid) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_eid_lt' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_eid_lt(eid, eid) IS 'implementation of < operator';
CREATE FUNCTION esim_eid_le(eid, eid) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_eid_le' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_eid_le(eid, eid) IS 'implementation of <= operator';
CREATE FUNCTION esim_eid_gt(eid, eid) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_eid_gt' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_eid_gt(eid, eid) IS 'implementation of > operator';
CREATE FUNCTION esim_eid_ge(eid, eid) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_eid_ge' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_eid_ge(eid, eid) IS 'implementation of >= operator';

CREATE FUNCTION esim_eid_cmp(eid, eid) RETURNS integer
	AS 'MODULE_PATHNAME', 'esim_eid_cmp' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_eid_cmp(eid, eid) IS
	'less than, equal to or greater than 0: the order of the digits';

CREATE FUNCTION esim_eid_sortsupport(internal) RETURNS void
	AS 'MODULE_PATHNAME', 'esim_eid_sortsupport' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_eid_sortsupport(internal) IS 'sort support of type eid';

CREATE FUNCTION esim_eid_hash(eid) RETURNS integer
	AS 'MODULE_PATHNAME', 'esim_eid_hash' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_eid_hash(eid) IS 'hash of type eid';

CREATE FUNCTION esim_eid_hash_extended(eid, bigint) RETURNS bigint
	AS 'MODULE_PATHNAME', 'esim_eid_hash_extended' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_eid_hash_extended(eid, bigint) IS 'hash of type eid with a seed';

CREATE OPERATOR = (
	LEFTARG = eid, RIGHTARG = eid, FUNCTION = esim_eid_eq,
	COMMUTATOR = =, NEGATOR = <>, RESTRICT = pg_catalog.eqsel, JOIN = pg_catalog.eqjoinsel,
	HASHES, MERGES
);
COMMENT ON OPERATOR = (eid, eid) IS 'equal';
CREATE OPERATOR <> (
	LEFTARG = eid, RIGHTARG = eid, FUNCTION = esim_eid_ne,
	COMMUTATOR = <>, NEGATOR = =, RESTRICT = pg_catalog.neqsel, JOIN = pg_catalog.neqjoinsel
);
COMMENT ON OPERATOR <> (eid, eid) IS 'not equal';
CREATE OPERATOR < (
	LEFTARG = eid, RIGHTARG = eid, FUNCTION = esim_eid_lt,
	COMMUTATOR = >, NEGATOR = >=, RESTRICT = pg_catalog.scalarltsel, JOIN = pg_catalog.scalarltjoinsel
);
COMMENT ON OPERATOR < (eid, eid) IS 'less than';
CREATE OPERATOR <= (
	LEFTARG = eid, RIGHTARG = eid, FUNCTION = esim_eid_le,
	COMMUTATOR = >=, NEGATOR = >, RESTRICT = pg_catalog.scalarlesel, JOIN = pg_catalog.scalarlejoinsel
);
COMMENT ON OPERATOR <= (eid, eid) IS 'less than or equal';
CREATE OPERATOR > (
	LEFTARG = eid, RIGHTARG = eid, FUNCTION = esim_eid_gt,
	COMMUTATOR = <, NEGATOR = <=, RESTRICT = pg_catalog.scalargtsel, JOIN = pg_catalog.scalargtjoinsel
);
COMMENT ON OPERATOR > (eid, eid) IS 'greater than';
CREATE OPERATOR >= (
	LEFTARG = eid, RIGHTARG = eid, FUNCTION = esim_eid_ge,
	COMMUTATOR = <=, NEGATOR = <, RESTRICT = pg_catalog.scalargesel, JOIN = pg_catalog.scalargejoinsel
);
COMMENT ON OPERATOR >= (eid, eid) IS 'greater than or equal';

CREATE OPERATOR CLASS esim_eid_btree_ops DEFAULT FOR TYPE eid USING btree AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
	FUNCTION 1 esim_eid_cmp(eid, eid),
	FUNCTION 2 esim_eid_sortsupport(internal),
	FUNCTION 4 pg_catalog.btequalimage(oid);
COMMENT ON OPERATOR CLASS esim_eid_btree_ops USING btree IS
	'order of type eid: the order of the digits';

CREATE OPERATOR CLASS esim_eid_hash_ops DEFAULT FOR TYPE eid USING hash AS
	OPERATOR 1 =,
	FUNCTION 1 esim_eid_hash(eid),
	FUNCTION 2 esim_eid_hash_extended(eid, bigint);
COMMENT ON OPERATOR CLASS esim_eid_hash_ops USING hash IS 'equality of type eid';

CREATE FUNCTION esim_eid_smaller(eid, eid) RETURNS eid
	AS 'MODULE_PATHNAME', 'esim_eid_smaller' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_eid_smaller(eid, eid) IS 'smaller of two';

CREATE AGGREGATE min(eid) (
	SFUNC = esim_eid_smaller, STYPE = eid, COMBINEFUNC = esim_eid_smaller,
	SORTOP = <, PARALLEL = SAFE
);
COMMENT ON AGGREGATE min(eid) IS 'least eid of all input values';

CREATE FUNCTION esim_eid_larger(eid, eid) RETURNS eid
	AS 'MODULE_PATHNAME', 'esim_eid_larger' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_eid_larger(eid, eid) IS 'larger of two';

CREATE AGGREGATE max(eid) (
	SFUNC = esim_eid_larger, STYPE = eid, COMBINEFUNC = esim_eid_larger,
	SORTOP = >, PARALLEL = SAFE
);
COMMENT ON AGGREGATE max(eid) IS 'greatest eid of all input values';

CREATE FUNCTION esim_eid_valid(text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_eid_valid' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_eid_valid(text) IS
	'whether a text is an EID with the right check digits (SGP.29 section 10), whatever esim.check_digits says; never raises an error';

CREATE FUNCTION esim_eid_check_digits(text) RETURNS text
	AS 'MODULE_PATHNAME', 'esim_eid_check_digits' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_eid_check_digits(text) IS
	'the two check digits (ISO/IEC 7064 MOD 97-10, SGP.29 section 10) that belong behind the first 30 digits of an EID';

--
-- Type iccid
--

CREATE TYPE iccid;

CREATE FUNCTION esim_iccid_in(cstring, oid, integer) RETURNS iccid
	AS 'MODULE_PATHNAME', 'esim_iccid_in' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_iccid_in(cstring, oid, integer) IS
	'input of type iccid; looks at the check digit unless esim.check_digits is off or the type modifier is unchecked';

CREATE FUNCTION esim_iccid_out(iccid) RETURNS cstring
	AS 'MODULE_PATHNAME', 'esim_iccid_out' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_iccid_out(iccid) IS 'output of type iccid: the digits';

CREATE FUNCTION esim_iccid_recv(internal, oid, integer) RETURNS iccid
	AS 'MODULE_PATHNAME', 'esim_iccid_recv' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_iccid_recv(internal, oid, integer) IS
	'binary input of type iccid: 10 octets as on the card (3GPP TS 31.102 EF.ICCID)';

CREATE FUNCTION esim_iccid_send(iccid) RETURNS bytea
	AS 'MODULE_PATHNAME', 'esim_iccid_send' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_iccid_send(iccid) IS 'binary output of type iccid: 10 octets as on the card (3GPP TS 31.102 EF.ICCID)';

CREATE FUNCTION esim_iccid_typmod_in(cstring[]) RETURNS integer
	AS 'MODULE_PATHNAME', 'esim_iccid_typmod_in' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_iccid_typmod_in(cstring[]) IS
	'type modifier input of type iccid: unchecked, nothing else';

CREATE FUNCTION esim_iccid_typmod_out(integer) RETURNS cstring
	AS 'MODULE_PATHNAME', 'esim_iccid_typmod_out' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_iccid_typmod_out(integer) IS 'type modifier output of type iccid';

CREATE TYPE iccid (
	INPUT = esim_iccid_in,
	OUTPUT = esim_iccid_out,
	RECEIVE = esim_iccid_recv,
	SEND = esim_iccid_send,
	TYPMOD_IN = esim_iccid_typmod_in,
	TYPMOD_OUT = esim_iccid_typmod_out,
	LIKE = pg_catalog.int8
);
COMMENT ON TYPE iccid IS
	'identity of an eSIM profile: 18 to 20 digits, 89 first, the Luhn digit last (ITU-T E.118); iccid(unchecked) takes other last digits';

CREATE FUNCTION esim_iccid_typmod(iccid, integer, boolean) RETURNS iccid
	AS 'MODULE_PATHNAME', 'esim_iccid_typmod' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_iccid_typmod(iccid, integer, boolean) IS
	'cast of iccid to a type modifier: the value as it is, since the check digit is looked at only where text is read';
CREATE CAST (iccid AS iccid) WITH FUNCTION esim_iccid_typmod(iccid, integer, boolean) AS IMPLICIT;
COMMENT ON CAST (iccid AS iccid) IS 'to a type modifier, changing nothing';

CREATE FUNCTION esim_iccid_from_text(text, integer, boolean) RETURNS iccid
	AS 'MODULE_PATHNAME', 'esim_iccid_from_text' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_iccid_from_text(text, integer, boolean) IS
	'cast of text to iccid, to iccid(unchecked) without a look at the check digit';
CREATE CAST (text AS iccid) WITH FUNCTION esim_iccid_from_text(text, integer, boolean);
COMMENT ON CAST (text AS iccid) IS 'as the input function reads it';
CREATE CAST (varchar AS iccid) WITH FUNCTION esim_iccid_from_text(text, integer, boolean);
COMMENT ON CAST (varchar AS iccid) IS 'as the input function reads it; JDBC sends varchar';

CREATE FUNCTION esim_iccid_to_text(iccid) RETURNS text
	AS 'MODULE_PATHNAME', 'esim_iccid_to_text' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_iccid_to_text(iccid) IS 'cast of iccid to text: the digits';
CREATE CAST (iccid AS text) WITH FUNCTION esim_iccid_to_text(iccid) AS ASSIGNMENT;
COMMENT ON CAST (iccid AS text) IS 'the digits';

CREATE FUNCTION esim_iccid_eq(iccid, iccid) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_iccid_eq' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_iccid_eq(iccid, iccid) IS 'implementation of = operator';
CREATE FUNCTION esim_iccid_ne(iccid, iccid) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_iccid_ne' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_iccid_ne(iccid, iccid) IS 'implementation of <> operator';
CREATE FUNCTION esim_iccid_lt(iccid, iccid) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_iccid_lt' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_iccid_lt(iccid, iccid) IS 'implementation of < operator';
CREATE FUNCTION esim_iccid_le(iccid, iccid) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_iccid_le' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_iccid_le(iccid, iccid) IS 'implementation of <= operator';
CREATE FUNCTION esim_iccid_gt(iccid, iccid) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_iccid_gt' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_iccid_gt(iccid, iccid) IS 'implementation of > operator';
CREATE FUNCTION esim_iccid_ge(iccid, iccid) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_iccid_ge' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_iccid_ge(iccid, iccid) IS 'implementation of >= operator';

CREATE FUNCTION esim_iccid_cmp(iccid, iccid) RETURNS integer
	AS 'MODULE_PATHNAME', 'esim_iccid_cmp' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_iccid_cmp(iccid, iccid) IS
	'less than, equal to or greater than 0: the order of the digits as text';

CREATE FUNCTION esim_iccid_sortsupport(internal) RETURNS void
	AS 'MODULE_PATHNAME', 'esim_iccid_sortsupport' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_iccid_sortsupport(internal) IS 'sort support of type iccid';

CREATE FUNCTION esim_iccid_hash(iccid) RETURNS integer
	AS 'MODULE_PATHNAME', 'esim_iccid_hash' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_iccid_hash(iccid) IS 'hash of type iccid';

CREATE FUNCTION esim_iccid_hash_extended(iccid, bigint) RETURNS bigint
	AS 'MODULE_PATHNAME', 'esim_iccid_hash_extended' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_iccid_hash_extended(iccid, bigint) IS 'hash of type iccid with a seed';

CREATE OPERATOR = (
	LEFTARG = iccid, RIGHTARG = iccid, FUNCTION = esim_iccid_eq,
	COMMUTATOR = =, NEGATOR = <>, RESTRICT = pg_catalog.eqsel, JOIN = pg_catalog.eqjoinsel,
	HASHES, MERGES
);
COMMENT ON OPERATOR = (iccid, iccid) IS 'equal';
CREATE OPERATOR <> (
	LEFTARG = iccid, RIGHTARG = iccid, FUNCTION = esim_iccid_ne,
	COMMUTATOR = <>, NEGATOR = =, RESTRICT = pg_catalog.neqsel, JOIN = pg_catalog.neqjoinsel
);
COMMENT ON OPERATOR <> (iccid, iccid) IS 'not equal';
CREATE OPERATOR < (
	LEFTARG = iccid, RIGHTARG = iccid, FUNCTION = esim_iccid_lt,
	COMMUTATOR = >, NEGATOR = >=, RESTRICT = pg_catalog.scalarltsel, JOIN = pg_catalog.scalarltjoinsel
);
COMMENT ON OPERATOR < (iccid, iccid) IS 'less than';
CREATE OPERATOR <= (
	LEFTARG = iccid, RIGHTARG = iccid, FUNCTION = esim_iccid_le,
	COMMUTATOR = >=, NEGATOR = >, RESTRICT = pg_catalog.scalarlesel, JOIN = pg_catalog.scalarlejoinsel
);
COMMENT ON OPERATOR <= (iccid, iccid) IS 'less than or equal';
CREATE OPERATOR > (
	LEFTARG = iccid, RIGHTARG = iccid, FUNCTION = esim_iccid_gt,
	COMMUTATOR = <, NEGATOR = <=, RESTRICT = pg_catalog.scalargtsel, JOIN = pg_catalog.scalargtjoinsel
);
COMMENT ON OPERATOR > (iccid, iccid) IS 'greater than';
CREATE OPERATOR >= (
	LEFTARG = iccid, RIGHTARG = iccid, FUNCTION = esim_iccid_ge,
	COMMUTATOR = <=, NEGATOR = <, RESTRICT = pg_catalog.scalargesel, JOIN = pg_catalog.scalargejoinsel
);
COMMENT ON OPERATOR >= (iccid, iccid) IS 'greater than or equal';

CREATE OPERATOR CLASS esim_iccid_btree_ops DEFAULT FOR TYPE iccid USING btree AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
	FUNCTION 1 esim_iccid_cmp(iccid, iccid),
	FUNCTION 2 esim_iccid_sortsupport(internal),
	FUNCTION 4 pg_catalog.btequalimage(oid);
COMMENT ON OPERATOR CLASS esim_iccid_btree_ops USING btree IS
	'order of type iccid: the order of the digits as text';

CREATE OPERATOR CLASS esim_iccid_hash_ops DEFAULT FOR TYPE iccid USING hash AS
	OPERATOR 1 =,
	FUNCTION 1 esim_iccid_hash(iccid),
	FUNCTION 2 esim_iccid_hash_extended(iccid, bigint);
COMMENT ON OPERATOR CLASS esim_iccid_hash_ops USING hash IS 'equality of type iccid';

CREATE FUNCTION esim_iccid_smaller(iccid, iccid) RETURNS iccid
	AS 'MODULE_PATHNAME', 'esim_iccid_smaller' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_iccid_smaller(iccid, iccid) IS 'smaller of two';

CREATE AGGREGATE min(iccid) (
	SFUNC = esim_iccid_smaller, STYPE = iccid, COMBINEFUNC = esim_iccid_smaller,
	SORTOP = <, PARALLEL = SAFE
);
COMMENT ON AGGREGATE min(iccid) IS 'least iccid of all input values';

CREATE FUNCTION esim_iccid_larger(iccid, iccid) RETURNS iccid
	AS 'MODULE_PATHNAME', 'esim_iccid_larger' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_iccid_larger(iccid, iccid) IS 'larger of two';

CREATE AGGREGATE max(iccid) (
	SFUNC = esim_iccid_larger, STYPE = iccid, COMBINEFUNC = esim_iccid_larger,
	SORTOP = >, PARALLEL = SAFE
);
COMMENT ON AGGREGATE max(iccid) IS 'greatest iccid of all input values';

CREATE FUNCTION esim_iccid_valid(text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_iccid_valid' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_iccid_valid(text) IS
	'whether a text is an ICCID with the right check digit (ITU-T E.118), whatever esim.check_digits says; never raises an error';

CREATE FUNCTION esim_iccid_check_digit(text) RETURNS text
	AS 'MODULE_PATHNAME', 'esim_iccid_check_digit' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_iccid_check_digit(text) IS
	'the Luhn digit (ITU-T E.118, ISO/IEC 7812-1) that belongs behind the 17 to 19 digits of an ICCID without one';

CREATE FUNCTION esim_iccid_to_card(iccid) RETURNS bytea
	AS 'MODULE_PATHNAME', 'esim_iccid_to_card' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_iccid_to_card(iccid) IS
	'the 10 octets of EF.ICCID (3GPP TS 31.102 4.2.1, SGP.22 Iccid): digits swapped in pairs, padded with F';

CREATE FUNCTION esim_iccid_from_card(bytea) RETURNS iccid
	AS 'MODULE_PATHNAME', 'esim_iccid_from_card' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_iccid_from_card(bytea) IS
	'reads the 10 octets of EF.ICCID (3GPP TS 31.102 4.2.1, SGP.22 Iccid), without a look at the check digit';

--
-- Type activation_code
--

CREATE TYPE activation_code;

CREATE FUNCTION esim_activation_code_in(cstring) RETURNS activation_code
	AS 'MODULE_PATHNAME', 'esim_activation_code_in' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_activation_code_in(cstring) IS
	'input of type activation_code (SGP.22 4.1); LPA: in front and empty fields at the end are left out';

CREATE FUNCTION esim_activation_code_out(activation_code) RETURNS cstring
	AS 'MODULE_PATHNAME', 'esim_activation_code_out' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_activation_code_out(activation_code) IS
	'output of type activation_code, without LPA:';

CREATE FUNCTION esim_activation_code_recv(internal) RETURNS activation_code
	AS 'MODULE_PATHNAME', 'esim_activation_code_recv' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_activation_code_recv(internal) IS
	'binary input of type activation_code: the text';

CREATE FUNCTION esim_activation_code_send(activation_code) RETURNS bytea
	AS 'MODULE_PATHNAME', 'esim_activation_code_send' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_activation_code_send(activation_code) IS
	'binary output of type activation_code: the text';

CREATE TYPE activation_code (
	INPUT = esim_activation_code_in,
	OUTPUT = esim_activation_code_out,
	RECEIVE = esim_activation_code_recv,
	SEND = esim_activation_code_send,
	INTERNALLENGTH = variable,
	ALIGNMENT = int4,
	STORAGE = extended
);
COMMENT ON TYPE activation_code IS
	'activation code (GSMA SGP.22 4.1) of at most 255 characters, stored and shown without LPA:; equal without regard to the case of the host';

CREATE FUNCTION esim_activation_code_from_text(text) RETURNS activation_code
	AS 'MODULE_PATHNAME', 'esim_activation_code_from_text' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_activation_code_from_text(text) IS 'cast of text to activation_code';
CREATE CAST (text AS activation_code) WITH FUNCTION esim_activation_code_from_text(text);
COMMENT ON CAST (text AS activation_code) IS 'as the input function reads it';
CREATE CAST (varchar AS activation_code) WITH FUNCTION esim_activation_code_from_text(text);
COMMENT ON CAST (varchar AS activation_code) IS 'as the input function reads it; JDBC sends varchar';
-- the layout is that of text
CREATE CAST (activation_code AS text) WITHOUT FUNCTION AS ASSIGNMENT;
COMMENT ON CAST (activation_code AS text) IS 'the code without LPA:';

CREATE FUNCTION esim_activation_code_eq(activation_code, activation_code) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_activation_code_eq' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_activation_code_eq(activation_code, activation_code) IS 'implementation of = operator';
CREATE FUNCTION esim_activation_code_ne(activation_code, activation_code) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_activation_code_ne' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_activation_code_ne(activation_code, activation_code) IS 'implementation of <> operator';
CREATE FUNCTION esim_activation_code_lt(activation_code, activation_code) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_activation_code_lt' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_activation_code_lt(activation_code, activation_code) IS 'implementation of < operator';
CREATE FUNCTION esim_activation_code_le(activation_code, activation_code) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_activation_code_le' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_activation_code_le(activation_code, activation_code) IS 'implementation of <= operator';
CREATE FUNCTION esim_activation_code_gt(activation_code, activation_code) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_activation_code_gt' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_activation_code_gt(activation_code, activation_code) IS 'implementation of > operator';
CREATE FUNCTION esim_activation_code_ge(activation_code, activation_code) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_activation_code_ge' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_activation_code_ge(activation_code, activation_code) IS 'implementation of >= operator';

CREATE FUNCTION esim_activation_code_cmp(activation_code, activation_code) RETURNS integer
	AS 'MODULE_PATHNAME', 'esim_activation_code_cmp' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_activation_code_cmp(activation_code, activation_code) IS
	'less than, equal to or greater than 0: byte by byte, the host without regard to case';

CREATE FUNCTION esim_activation_code_sortsupport(internal) RETURNS void
	AS 'MODULE_PATHNAME', 'esim_activation_code_sortsupport' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_activation_code_sortsupport(internal) IS 'sort support of type activation_code';

CREATE FUNCTION esim_activation_code_hash(activation_code) RETURNS integer
	AS 'MODULE_PATHNAME', 'esim_activation_code_hash' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_activation_code_hash(activation_code) IS 'hash of type activation_code';

CREATE FUNCTION esim_activation_code_hash_extended(activation_code, bigint) RETURNS bigint
	AS 'MODULE_PATHNAME', 'esim_activation_code_hash_extended' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF;
COMMENT ON FUNCTION esim_activation_code_hash_extended(activation_code, bigint) IS 'hash of type activation_code with a seed';

CREATE OPERATOR = (
	LEFTARG = activation_code, RIGHTARG = activation_code, FUNCTION = esim_activation_code_eq,
	COMMUTATOR = =, NEGATOR = <>, RESTRICT = pg_catalog.eqsel, JOIN = pg_catalog.eqjoinsel,
	HASHES, MERGES
);
COMMENT ON OPERATOR = (activation_code, activation_code) IS 'equal';
CREATE OPERATOR <> (
	LEFTARG = activation_code, RIGHTARG = activation_code, FUNCTION = esim_activation_code_ne,
	COMMUTATOR = <>, NEGATOR = =, RESTRICT = pg_catalog.neqsel, JOIN = pg_catalog.neqjoinsel
);
COMMENT ON OPERATOR <> (activation_code, activation_code) IS 'not equal';
CREATE OPERATOR < (
	LEFTARG = activation_code, RIGHTARG = activation_code, FUNCTION = esim_activation_code_lt,
	COMMUTATOR = >, NEGATOR = >=, RESTRICT = pg_catalog.scalarltsel, JOIN = pg_catalog.scalarltjoinsel
);
COMMENT ON OPERATOR < (activation_code, activation_code) IS 'less than';
CREATE OPERATOR <= (
	LEFTARG = activation_code, RIGHTARG = activation_code, FUNCTION = esim_activation_code_le,
	COMMUTATOR = >=, NEGATOR = >, RESTRICT = pg_catalog.scalarlesel, JOIN = pg_catalog.scalarlejoinsel
);
COMMENT ON OPERATOR <= (activation_code, activation_code) IS 'less than or equal';
CREATE OPERATOR > (
	LEFTARG = activation_code, RIGHTARG = activation_code, FUNCTION = esim_activation_code_gt,
	COMMUTATOR = <, NEGATOR = <=, RESTRICT = pg_catalog.scalargtsel, JOIN = pg_catalog.scalargtjoinsel
);
COMMENT ON OPERATOR > (activation_code, activation_code) IS 'greater than';
CREATE OPERATOR >= (
	LEFTARG = activation_code, RIGHTARG = activation_code, FUNCTION = esim_activation_code_ge,
	COMMUTATOR = <=, NEGATOR = <, RESTRICT = pg_catalog.scalargesel, JOIN = pg_catalog.scalargejoinsel
);
COMMENT ON OPERATOR >= (activation_code, activation_code) IS 'greater than or equal';

CREATE OPERATOR CLASS esim_activation_code_btree_ops DEFAULT FOR TYPE activation_code USING btree AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
	FUNCTION 1 esim_activation_code_cmp(activation_code, activation_code),
	FUNCTION 2 esim_activation_code_sortsupport(internal);
COMMENT ON OPERATOR CLASS esim_activation_code_btree_ops USING btree IS
	'order of type activation_code: byte by byte, the host without regard to case';

CREATE OPERATOR CLASS esim_activation_code_hash_ops DEFAULT FOR TYPE activation_code USING hash AS
	OPERATOR 1 =,
	FUNCTION 1 esim_activation_code_hash(activation_code),
	FUNCTION 2 esim_activation_code_hash_extended(activation_code, bigint);
COMMENT ON OPERATOR CLASS esim_activation_code_hash_ops USING hash IS 'equality of type activation_code';

CREATE FUNCTION esim_build_activation_code(
	smdp_address text,
	matching_id text = '',
	smdp_oid text = NULL,
	confirmation_required boolean = false
) RETURNS activation_code
	AS 'MODULE_PATHNAME', 'esim_build_activation_code' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION esim_build_activation_code(text, text, text, boolean) IS
	'makes an activation code (SGP.22 4.1) of its fields; NULL if the SM-DP+ address is NULL';

CREATE FUNCTION esim_ac_smdp_address(ac activation_code) RETURNS text
	AS 'MODULE_PATHNAME', 'esim_ac_smdp_address' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_ac_smdp_address(activation_code) IS
	'SM-DP+ address of an activation code (SGP.22 4.1), as written';

CREATE FUNCTION esim_ac_matching_id(ac activation_code) RETURNS text
	AS 'MODULE_PATHNAME', 'esim_ac_matching_id' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_ac_matching_id(activation_code) IS
	'matching ID (AC_Token) of an activation code (SGP.22 4.1), may be empty';

CREATE FUNCTION esim_ac_smdp_oid(ac activation_code) RETURNS text
	AS 'MODULE_PATHNAME', 'esim_ac_smdp_oid' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_ac_smdp_oid(activation_code) IS
	'OID of the SM-DP+ in an activation code (SGP.22 4.1), NULL if there is none';

CREATE FUNCTION esim_ac_confirmation_required(ac activation_code) RETURNS boolean
	AS 'MODULE_PATHNAME', 'esim_ac_confirmation_required' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_ac_confirmation_required(activation_code) IS
	'whether an activation code (SGP.22 4.1) asks for a confirmation code';

CREATE FUNCTION esim_ac_lpa(ac activation_code) RETURNS text
	AS 'MODULE_PATHNAME', 'esim_ac_lpa' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esim_ac_lpa(activation_code) IS
	'the activation code with LPA: in front, as QR codes and links carry it (SGP.22 4.1)';
