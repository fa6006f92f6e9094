/*-------------------------------------------------------------------------
 *
 * eim_outcome.c
 *	  Orders of an eIM, and what their outcomes mean: the results of SGP.32's
 *	  eUICC packages and the errors of onomondo-eim, in one table.
 *
 * Pure: JSON in, a verdict out.  What is done about it is the driver's.
 *
 *-------------------------------------------------------------------------
 */
#include "eim_outcome.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_RESULTS		64

#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

const EimOrderRow eim_orders[ORDER_COUNT] = {
	[ORDER_DOWNLOAD] = {"download", "download", {NULL, NULL},
	{"profileInstallationResult", NULL}},
	[ORDER_ENABLE] = {"enable", "psmo", {"enable", NULL}, {"enableResult", NULL}},
	[ORDER_DISABLE] = {"disable", "psmo", {"disable", NULL}, {"disableResult", NULL}},
	[ORDER_DELETE] = {"delete", "psmo", {"delete", NULL}, {"deleteResult", NULL}},
	[ORDER_DISABLE_DELETE] = {"disable-delete", "psmo", {"disable", "delete"},
	{"disableResult", "deleteResult"}},
	[ORDER_SET_FALLBACK] = {"set-fallback", "psmo", {"setFallbackAttribute", NULL},
	{"setFallbackAttributeResult", NULL}},
	[ORDER_UNSET_FALLBACK] = {"unset-fallback", "psmo", {"unsetFallbackAttribute", NULL},
	{"unsetFallbackAttributeResult", NULL}},
	[ORDER_LIST] = {"list", "psmo", {"listProfileInfo", NULL}, {"listProfileInfoResult", NULL}}
};

#define NOT_THERE "the profile is not on the eUICC"
#define POLICY "the profile's policy rules forbid it"
#define CAT_BUSY "the device is busy with the card"
#define UNDEFINED "the eUICC reports an error without a reason"
#define SMDP_REFUSED "the SM-DP+ refused the download"
#define EUICC_REFUSED "the eUICC refused the download"

/*
 * Every result of SGP.32 v1.2 and of onomondo-eim.  A v1.0 eIM prints the
 * number of a v1.2 result that it has no name for.
 */
static const EimRow eim_rows[] = {
	{"enableResult", 0, "ok", M_OK, NULL, NULL},
	{"enableResult", 1, "iccidOrAidNotFound", M_ABSENT, "IDENTIFIER_MISMATCH", NOT_THERE},
	{"enableResult", 2, "profileNotInDisabledState", M_STATE, "INCOMPATIBLE_STATE",
	"the profile is not disabled"},
	{"enableResult", 3, "disallowedByPolicy", M_FINAL, "INCOMPATIBLE_STATE", POLICY},
	{"enableResult", 5, "catBusy", M_RETRY, "ABORTED", CAT_BUSY},
	{"enableResult", 7, "commandError", M_UNDEFINED, "INTERNAL", UNDEFINED},
	{"enableResult", 20, "rollbackNotAvailable", M_NO_ROLLBACK, "INCOMPATIBLE_STATE",
	"the eUICC cannot roll back: enable without rollback"},
	{"enableResult", 127, "undefinedError", M_UNDEFINED, "INTERNAL", UNDEFINED},

	{"disableResult", 0, "ok", M_OK, NULL, NULL},
	{"disableResult", 1, "iccidOrAidNotFound", M_ABSENT, "IDENTIFIER_MISMATCH", NOT_THERE},
	{"disableResult", 2, "profileNotInEnabledState", M_STATE, "INCOMPATIBLE_STATE",
	"the profile is not enabled"},
	{"disableResult", 3, "disallowedByPolicy", M_FINAL, "INCOMPATIBLE_STATE", POLICY},
	{"disableResult", 5, "catBusy", M_RETRY, "ABORTED", CAT_BUSY},
	{"disableResult", 7, "commandError", M_UNDEFINED, "INTERNAL", UNDEFINED},
	{"disableResult", 127, "undefinedError", M_UNDEFINED, "INTERNAL", UNDEFINED},

	{"deleteResult", 0, "ok", M_OK, NULL, NULL},
	{"deleteResult", 1, "iccidOrAidNotFound", M_ABSENT, "IDENTIFIER_MISMATCH", NOT_THERE},
	{"deleteResult", 2, "profileNotInDisabledState", M_STATE, "INCOMPATIBLE_STATE",
	"the profile is not disabled"},
	{"deleteResult", 3, "disallowedByPolicy", M_FINAL, "INCOMPATIBLE_STATE", POLICY},
	{"deleteResult", 5, "catBusy", M_RETRY, "ABORTED", CAT_BUSY},
	{"deleteResult", 7, "commandError", M_UNDEFINED, "INTERNAL", UNDEFINED},
	{"deleteResult", 20, "rollbackNotAvailable", M_FINAL, "INCOMPATIBLE_STATE",
	"the eUICC may yet have to roll back to the profile"},
	{"deleteResult", 21, "returnFallbackProfile", M_FINAL, "INCOMPATIBLE_STATE",
	"the eUICC may yet have to return from its fallback profile to this one"},
	{"deleteResult", 127, "undefinedError", M_UNDEFINED, "INTERNAL", UNDEFINED},

	{"setFallbackAttributeResult", 0, "ok", M_OK, NULL, NULL},
	{"setFallbackAttributeResult", 1, "iccidOrAidNotFound", M_ABSENT, "IDENTIFIER_MISMATCH",
	NOT_THERE},
	{"setFallbackAttributeResult", 2, "fallbackNotAllowed", M_FINAL, "INCOMPATIBLE_STATE",
	"the profile may not be the fallback profile"},
	{"setFallbackAttributeResult", 3, "fallbackProfileEnabled", M_FINAL, "INCOMPATIBLE_STATE",
	"the present fallback profile is the enabled one"},
	{"setFallbackAttributeResult", 127, "undefinedError", M_UNDEFINED, "INTERNAL", UNDEFINED},

	{"unsetFallbackAttributeResult", 0, "ok", M_OK, NULL, NULL},
	{"unsetFallbackAttributeResult", 2, "noFallbackAttribute", M_ALREADY, NULL, NULL},
	{"unsetFallbackAttributeResult", 3, "fallbackProfileEnabled", M_FINAL, "INCOMPATIBLE_STATE",
	"the present fallback profile is the enabled one"},
	{"unsetFallbackAttributeResult", 7, "commandError", M_UNDEFINED, "INTERNAL", UNDEFINED},
	{"unsetFallbackAttributeResult", 127, "undefinedError", M_UNDEFINED, "INTERNAL", UNDEFINED},

	{"listProfileInfoResult", 1, "incorrectInputValues", M_FINAL, "INTERNAL",
	"the eUICC does not understand how it is asked"},
	{"listProfileInfoResult", 11, "profileChangeOngoing", M_RETRY, "ABORTED",
	"the eUICC is just changing profiles"},
	{"listProfileInfoResult", 127, "undefinedError", M_UNCLEAR, "INTERNAL", UNDEFINED},
	{"listProfileInfoResult", -1, "errorResult", M_UNCLEAR, "INTERNAL", UNDEFINED},

	{"profileInstallationResult", -1, "successResult", M_OK, NULL, NULL},
	{"profileInstallationResult", -1, "errorResult", M_FINAL, "SERVICE_NOT_APPLICABLE",
	"the eUICC could not install the profile"},

	{"rollbackResult", 0, "ok", M_ROLLED_BACK, "ROLLED_BACK",
	"the device lost its connection with the profile and went back to the former one"},
	{"rollbackResult", 127, "undefinedError", M_ROLLBACK_FAILED, "ROLLED_BACK",
	"the device lost its connection with the profile and could not go back"},

	/* whatever it says */
	{"cancelSessionResult", -1, NULL, M_FINAL, "SERVICE_NOT_APPLICABLE",
	"the device cancelled the download"},

	{"processingTerminated", 1, "resultSizeOverflow", M_UNCLEAR, "INTERNAL",
	"the eUICC broke off: the results became too long"},
	{"processingTerminated", 2, "unknownOrDamagedCommand", M_FINAL, "SERVICE_NOT_APPLICABLE",
	"the eUICC does not know the command"},
	{"processingTerminated", 3, "interruption", M_UNCLEAR, "INTERNAL",
	"the eUICC was interrupted"},
	{"processingTerminated", 127, "undefinedError", M_UNCLEAR, "INTERNAL", UNDEFINED},

	{"euiccPackageErrorCode", 3, "invalidEid", M_FINAL, "IDENTIFIER_MISMATCH",
	"the device's eUICC has another EID"},
	{"euiccPackageErrorCode", 4, "replayError", M_REPLAY, "CONFLICT",
	"the eIM's counter for this eUICC is behind: raise counterValue at the eIM"},
	{"euiccPackageErrorCode", 6, "counterValueOutOfRange", M_FINAL, "OUT_OF_RANGE",
	"the eIM's counter for this eUICC is used up"},
	{"euiccPackageErrorCode", 15, "sizeOverflow", M_FINAL, "SERVICE_NOT_APPLICABLE",
	"the order is too long for the eUICC"},
	{"euiccPackageErrorCode", 104, "ecallActive", M_RETRY, "ABORTED",
	"the device is in an emergency call"},
	{"euiccPackageErrorCode", 127, "undefinedError", M_UNCLEAR, "INTERNAL", UNDEFINED},
	{"euiccPackageErrorCode", -1, "counterValueMismatch", M_UNCLEAR, "INTERNAL",
	"the eUICC answered another order than this"},

	{"eimPackageError", 1, "invalidPackageFormat", M_FINAL, "SERVICE_NOT_APPLICABLE",
	"the device does not understand the order"},
	{"eimPackageError", 2, "unknownPackage", M_FINAL, "SERVICE_NOT_APPLICABLE",
	"the device does not understand the order"},
	{"eimPackageError", 127, "undefinedError", M_UNCLEAR, "INTERNAL",
	"the device reports an error without a reason"},

	{"error", -1, "malformedResult", M_UNCLEAR, "INTERNAL",
	"the eIM could not read the eUICC's answer"},

	{"procedureError", -1, "initiateAuthenticationError", M_FINAL, "SERVICE_NOT_APPLICABLE",
	SMDP_REFUSED},
	{"procedureError", -1, "authenticateResponseError", M_FINAL, "SERVICE_NOT_APPLICABLE",
	EUICC_REFUSED},
	{"procedureError", -1, "authenticateClientError", M_FINAL, "SERVICE_NOT_APPLICABLE",
	SMDP_REFUSED},
	{"procedureError", -1, "downloadResponseError", M_FINAL, "SERVICE_NOT_APPLICABLE",
	EUICC_REFUSED},
	{"procedureError", -1, "getBoundProfilePackageError", M_FINAL, "SERVICE_NOT_APPLICABLE",
	SMDP_REFUSED},
	{"procedureError", -1, "cancelSessionResponseError", M_FINAL, "SERVICE_NOT_APPLICABLE",
	"the device cancelled the download"},
	{"procedureError", -1, "handleNotificationError", M_UNDEFINED, "INTERNAL",
	"the SM-DP+ did not take the notification of the installation"},
	{"procedureError", -1, "euiccSignatureInvalid", M_UNDEFINED, "INTERNAL",
	"the signature of the eUICC's answer is not valid"},
	{"procedureError", -1, "badPsmo", M_FINAL, "SERVICE_NOT_APPLICABLE",
	"the eIM does not know the command: it needs SGP.32 v1.2"},
	{"procedureError", -1, "badEco", M_FINAL, "INTERNAL", "the eIM does not understand the order"},
	{"procedureError", -1, "badEdr", M_FINAL, "INTERNAL", "the eIM does not understand the order"},
	{"procedureError", -1, "badOrder", M_FINAL, "INTERNAL",
	"the eIM does not understand the order"},
	{"procedureError", -1, "abortedOrder", M_UNCLEAR, "ABORTED",
	"the eIM broke the order off: it was restarted, or the SM-DP+ gave no answer"},
	{"procedureError", -1, "stuckOrder", M_UNCLEAR, "TIMEOUT",
	"the device did not end the order in time"},
	{"procedureError", -1, "noshowOrder", M_NOSHOW, "TIMEOUT",
	"the device did not fetch the order in time"},
	{"procedureError", -1, "undefinedError", M_UNDEFINED, "INTERNAL",
	"the eIM reports an error without a reason"}
};

/* what the table does not have */
static const EimRow eim_other = {
	"", -1, "", M_UNCLEAR, "INTERNAL", "the outcome cannot be understood"
};
static const EimRow eim_silent = {
	"", -1, "", M_UNCLEAR, "INTERNAL", "the outcome is not told"
};
const EimRow eim_gone = {
	"status", -1, "absent", M_UNCLEAR, "INTERNAL", "the eIM no longer has the order"
};
const EimRow eim_unreadable = {
	"", -1, "", M_UNCLEAR, "INTERNAL", "the eIM's answers cannot be understood"
};
static const EimRow eim_half = {
	"", -1, "", M_UNCLEAR, "INTERNAL", "the eUICC did not carry out all of the order"
};

/* the words of a result, for people */
static void
in_words(char *said, size_t size, const char *key, const json_t *value)
{
	if (json_is_string(value))
		snprintf(said, size, "%.40s: %.80s", key, json_string_value(value));
	else if (json_is_integer(value))
		snprintf(said, size, "%.40s: %lld", key, (long long) json_integer_value(value));
	else
		snprintf(said, size, "%.40s", key);
}

static const EimRow *
find_row(const char *key, const json_t *value)
{
	const char *text = json_string_value(value);
	json_int_t	number = -1;
	size_t		i;

	if (json_is_integer(value))
		number = json_integer_value(value);
	else if (text != NULL && *text != '\0' && strlen(text) <= 3 &&
			 strspn(text, "0123456789") == strlen(text))
		number = atoi(text);
	for (i = 0; i < lengthof(eim_rows); i++)
	{
		const EimRow *row = &eim_rows[i];

		if (strcmp(row->key, key) != 0)
			continue;
		if (row->name == NULL || (number >= 0 && row->number == number) ||
			(number < 0 && text != NULL && strcasecmp(row->name, text) == 0))
			return row;
	}
	return &eim_other;
}

static bool
is_key(const char *key)
{
	size_t		i;

	for (i = 0; i < lengthof(eim_rows); i++)
	{
		if (strcmp(eim_rows[i].key, key) == 0)
			return true;
	}
	return false;
}

/* A result that is an object: of a download, of listProfileInfo. */
static const EimRow *
object_row(const char *key, const json_t *value, EimVerdict *verdict)
{
	const json_t *result = json_object_get(value, "finalResult");
	const char *name;
	json_t	   *member;

	if (strcmp(key, "profileInstallationResult") == 0)
	{
		in_words(verdict->said, sizeof(verdict->said), key, result);
		verdict->iccid = json_string_value(json_object_get(value, "iccid"));
		return result != NULL ? find_row(key, result) : &eim_other;
	}
	if (strcmp(key, "listProfileInfoResult") != 0)
		return &eim_other;
	if (json_is_string(result) && (strcasecmp(json_string_value(result), "successResult") == 0 ||
								   strcasecmp(json_string_value(result), "ok") == 0))
	{
		verdict->list = json_object_get(value, "profileInfoList");
		return json_is_array(verdict->list) ? NULL : &eim_other;
	}

	/* why, if an eIM should say so */
	json_object_foreach((json_t *) value, name, member)
	{
		const EimRow *row = find_row(key, member);

		if (row != &eim_other && row->number >= 0)
		{
			in_words(verdict->said, sizeof(verdict->said), key, member);
			return row;
		}
	}
	in_words(verdict->said, sizeof(verdict->said), key, result);
	return find_row(key, result);
}

/*
 * What the outcome of an order comes to.  Results stand in the order of the
 * PSMOs; the first failure ends the package, so there may be fewer of them.
 */
void
eim_judge(EimOrder order, const json_t *outcome, EimVerdict *verdict)
{
	const EimOrderRow *kind = &eim_orders[order];
	const EimRow *got[2] = {NULL, NULL};
	const EimRow *trouble = NULL;
	const EimRow *rollback = NULL;
	char		said[2][EIM_SAID];
	char		trouble_said[EIM_SAID] = "";
	char		rollback_said[EIM_SAID] = "";
	size_t		n = json_array_size(outcome);
	size_t		i;
	int			k;
	bool		listed = false;

	memset(verdict, 0, sizeof(*verdict));
	memset(said, 0, sizeof(said));
	for (i = 0; i < n && i < MAX_RESULTS; i++)
	{
		json_t	   *entry = json_array_get(outcome, i);
		const char *key;
		json_t	   *value;

		json_object_foreach(entry, key, value)
		{
			const EimRow *row;

			for (k = 0; k < 2; k++)
			{
				if (kind->result[k] != NULL && strcmp(kind->result[k], key) == 0)
					break;
			}
			if (k < 2)
			{
				verdict->said[0] = '\0';
				if (json_is_object(value))
					row = object_row(key, value, verdict);
				else
				{
					row = find_row(key, value);
					in_words(verdict->said, sizeof(verdict->said), key, value);
				}
				if (row == NULL)
					listed = true;

				/* of two the worse one counts */
				else if (got[k] == NULL || got[k]->meaning == M_OK)
				{
					got[k] = row;
					memcpy(said[k], verdict->said, EIM_SAID);
				}
			}
			else if (strcmp(key, "rollbackResult") == 0)
			{
				if (rollback == NULL)
				{
					rollback = find_row(key, value);
					in_words(rollback_said, sizeof(rollback_said), key, value);
				}
			}
			else if (is_key(key) && strstr(key, "Result") != NULL &&
					 strcmp(key, "cancelSessionResult") != 0)
			{
				/* of something that was not asked for */
				if (trouble == NULL)
					trouble = &eim_other;
			}
			else if (is_key(key))
			{
				if (trouble == NULL || trouble == &eim_other)
				{
					trouble = find_row(key, value);
					in_words(trouble_said, sizeof(trouble_said), key, value);
				}
			}
		}
	}
	verdict->said[0] = '\0';
	verdict->disabled = order == ORDER_DISABLE_DELETE && got[0] != NULL &&
		got[0]->meaning == M_OK;

	if (rollback != NULL && order == ORDER_ENABLE)
	{
		verdict->row = rollback == &eim_other ? &eim_half : rollback;
		memcpy(verdict->said, rollback_said, EIM_SAID);
		return;
	}
	for (k = 0; k < 2; k++)
	{
		if (got[k] == NULL || got[k]->meaning == M_OK || got[k]->meaning == M_ALREADY)
			continue;
		verdict->row = got[k];
		verdict->turned = order == ORDER_DISABLE_DELETE && k == 0;
		memcpy(verdict->said, said[k], EIM_SAID);
		return;
	}
	if (trouble != NULL)
	{
		/* some of it may have been carried out all the same */
		verdict->row = got[0] != NULL || listed ? &eim_half : trouble;
		memcpy(verdict->said, trouble_said, EIM_SAID);
		verdict->list = NULL;
		return;
	}
	if (order == ORDER_LIST)
	{
		verdict->row = listed ? NULL : &eim_silent;
		return;
	}
	for (k = 0; k < 2 && kind->result[k] != NULL; k++)
	{
		if (got[k] == NULL)
		{
			verdict->row = got[0] != NULL ? &eim_half : &eim_silent;
			return;
		}
	}
	verdict->row = got[0];
	memcpy(verdict->said, said[0], EIM_SAID);
}
