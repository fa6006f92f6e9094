/*
 * identifier.h
 *		The identifier types as Datums, for the C code of the extension.
 */
#ifndef ESIM_IDENTIFIER_H
#define ESIM_IDENTIFIER_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/array.h"

#include "activation_code.h"
#include "eid.h"
#include "iccid.h"

/* setting esim.check_digits, defined in esim.c */
extern bool esim_check_digits;

/* the only type modifier of eid and iccid: check digits are not looked at */
#define IDENTIFIER_TYPMOD_UNCHECKED 1

/* iccid: 8 bytes, by value where a Datum holds them (as int8 does) */
#define DatumGetIccid(d) ((Iccid) DatumGetInt64(d))
#define IccidGetDatum(v) Int64GetDatum((int64) (v))
#define PG_GETARG_ICCID(n) DatumGetIccid(PG_GETARG_DATUM(n))
#define PG_RETURN_ICCID(v) return IccidGetDatum(v)

/* eid: 16 bytes by reference, no alignment */
#define DatumGetEidP(d) ((Eid *) DatumGetPointer(d))
#define EidPGetDatum(p) PointerGetDatum(p)
#define PG_GETARG_EID_P(n) DatumGetEidP(PG_GETARG_DATUM(n))
#define PG_RETURN_EID_P(p) return EidPGetDatum(p)

/* activation_code: a varlena with the normalised text, laid out as text is */

/* identifier.c */
extern char *identifier_mask(const char *text, size_t len);
extern char *identifier_character(const char *text, size_t len, int position);
extern bool identifier_checked(int32 typmod);
extern Datum identifier_typmod_in(const char *type_name, ArrayType *words);
extern Datum identifier_typmod_out(int32 typmod);

/* eid_type.c, iccid_type.c, activation_code_type.c: parse or ereport(ERROR, 22P02) */
extern Eid *eid_from_text(const char *text, size_t len, bool check);
extern Iccid iccid_from_text(const char *text, size_t len, bool check);
extern Datum activation_code_from_text(const char *text, size_t len);
extern Datum activation_code_datum(const ActivationCode *code);
extern void activation_code_take_apart(Datum code, ActivationCode *out);

#endif							/* ESIM_IDENTIFIER_H */
