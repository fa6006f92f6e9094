/*-------------------------------------------------------------------------
 *
 * key.c
 *	  Idempotency keys: a repeated call gets the operation of the first.
 *
 *-------------------------------------------------------------------------
 */
#include "esim.h"

#include "utils/builtins.h"

#include "operation/enqueue.h"

static EsimStatement find_key = {
	"SELECT operation, fingerprint FROM @esim_idempotency WHERE owner = $1 AND key = $2",
	2, {"oid", "text"}
};
static EsimStatement insert_key = {
	"INSERT INTO @esim_idempotency (owner, key, operation, fingerprint) VALUES ($1, $2, $3, $4)"
	" ON CONFLICT DO NOTHING",
	4, {"regrole", "text", "uuid", "bytea"}
};

/*
 * true: the key was used before; the element has the operation of that time,
 * or a failure if that was another call.
 */
bool
esim_replay(EsimElement *element)
{
	Datum		values[2];
	EsimRow		row;
	bytea	   *fingerprint;

	values[0] = ObjectIdGetDatum(element->owner);
	values[1] = PointerGetDatum(cstring_to_text(element->idempotency_key));
	esim_execute_latest(&find_key, values, NULL, 1);
	if (SPI_processed == 0)
	{
		SPI_freetuptable(SPI_tuptable);
		return false;
	}
	esim_row(&row, SPI_tuptable, 0);
	fingerprint = DatumGetByteaPP(row.value[1]);
	if (VARSIZE_ANY_EXHDR(fingerprint) == sizeof(element->fingerprint) &&
		memcmp(VARDATA_ANY(fingerprint), element->fingerprint, sizeof(element->fingerprint)) == 0)
	{
		element->replayed = true;
		element->failure = NULL;
		element->id = *DatumGetUUIDP(row.value[0]);
	}
	else
		element->failure =
			esim_failure("CONFLICT",
						 pstrdup("the idempotency key was used for another call"),
						 pstrdup("An operation with this key has other identifiers or parameters."),
						 pstrdup("Use a new key for a new operation."));
	SPI_freetuptable(SPI_tuptable);
	return true;
}

/* false: somebody else has just used the key; the element has the outcome */
bool
esim_claim_key(EsimElement *element)
{
	Datum		values[4];
	bytea	   *fingerprint = palloc(VARHDRSZ + sizeof(element->fingerprint));

	SET_VARSIZE(fingerprint, VARHDRSZ + sizeof(element->fingerprint));
	memcpy(VARDATA(fingerprint), element->fingerprint, sizeof(element->fingerprint));
	values[0] = ObjectIdGetDatum(element->owner);
	values[1] = PointerGetDatum(cstring_to_text(element->idempotency_key));
	values[2] = UUIDPGetDatum(&element->id);
	values[3] = PointerGetDatum(fingerprint);
	esim_execute_latest(&insert_key, values, NULL, 0);
	if (SPI_processed == 1)
		return true;
	if (!esim_replay(element))
		elog(ERROR, "idempotency key is neither free nor taken");
	return false;
}

/* Look up the keys of all elements, before anything else is checked. */
void
esim_replay_all(EsimRequest *request)
{
	for (int i = 0; i < request->nelements; i++)
	{
		EsimElement *element = &request->elements[i];

		if (element->idempotency_key == NULL || !OidIsValid(element->owner))
			continue;
		esim_fingerprint(request, element);
		esim_replay(element);
	}
}
