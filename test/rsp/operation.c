/*
 * operation.c
 *		Operations: accepted, queued at their eUICC, carried out by the device.
 *
 * An eUICC carries out one operation at a time, in the order of acceptance,
 * each after the device's delay and only while the device is online.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "rspsim.h"

const char *const kind_names[KINDS] = {
	"download", "enable", "disable", "delete", "set-fallback"
};

void		(*operation_completed_hook) (uint32_t index);

static Pool operations = {.width = sizeof(Operation)};
static uint64_t succeeded[KINDS];
static uint64_t failed[KINDS];
static uint64_t accepted[KINDS];
static uint32_t epoch;

Operation *
operation_get(uint32_t index)
{
	return pool_get(&operations, index);
}

/* A permutation of the 32-bit numbers, keyed by the seed: a Feistel network. */
static uint32_t
scramble(uint32_t value, bool back)
{
	uint32_t	left = value >> 16;
	uint32_t	right = value & 0xffff;
	int			round;

	for (round = 0; round < 4; round++)
	{
		uint32_t	key = back ? 3 - round : round;
		uint32_t	swap;

		if (back)
		{
			swap = left;
			left = right ^ (mix64(simulator_seed ^ (uint64_t) key << 32 ^ left) & 0xffff);
			right = swap;
		}
		else
		{
			swap = right;
			right = left ^ (mix64(simulator_seed ^ (uint64_t) key << 32 ^ right) & 0xffff);
			left = swap;
		}
	}
	return left << 16 | right;
}

/* The id under which callers know an operation: its scrambled number, and a hash. */
void
operation_id(uint32_t index, char out[48])
{
	uint64_t	a = mix64(simulator_seed ^ mix64(index));
	uint64_t	b = mix64(a ^ simulator_seed);
	bool		opaque = operation_get(index)->flags & OPERATION_OPAQUE;

	snprintf(out, 48, opaque ? "op:%08x_%04x.4%03x-%04x_%012" PRIx64 :
			 "%08x-%04x-4%03x-%04x-%012" PRIx64, scramble(index, false),
			 (unsigned) (a & 0xffff), (unsigned) (a >> 16 & 0xfff),
			 (unsigned) (0x8000 | (a >> 32 & 0x3fff)), b & UINT64_C(0xffffffffffff));
}

/* The operation of this id, NULL if there is none. */
Operation *
operation_find(const char *id, uint32_t *index)
{
	char		text[48];
	unsigned	number;

	if (sscanf(strncmp(id, "op:", 3) == 0 ? id + 3 : id, "%8x", &number) != 1)
		return NULL;
	*index = scramble(number, true);
	if (*index >= operations.count)
		return NULL;
	operation_id(*index, text);
	return strcmp(text, id) == 0 ? operation_get(*index) : NULL;
}

static void
complete(uint32_t index, Outcome outcome, int status, const char *code, const char *reason)
{
	Operation  *operation = operation_get(index);

	if (operation->flags & OPERATION_UNREPORTED)
		return;
	operation->outcome = outcome;
	operation->completed_ms = wall_ms();
	operation->reason_status = status;
	operation->reason_code = code;
	operation->reason = reason;
	if (outcome == OUTCOME_SUCCESS)
		succeeded[operation->kind]++;
	else
		failed[operation->kind]++;
	if (operation_completed_hook != NULL)
		operation_completed_hook(index);
}

static void
succeed(uint32_t index)
{
	complete(index, OUTCOME_SUCCESS, 0, NULL, NULL);
}

static void
fail(uint32_t index, int status, const char *code, const char *reason)
{
	complete(index, OUTCOME_FAILED, status, code, reason);
}

/* Enables an installed profile and disables the one that was enabled. */
static void
enable_profile(Cause cause, uint32_t operation, uint32_t euicc, uint32_t index)
{
	Profile    *profile = profile_get(index);
	uint32_t	other_index;
	Profile    *other = euicc_enabled(euicc_get(euicc), &other_index);
	int			from = profile->state;

	if (other != NULL && other != profile)
	{
		other->state = PROFILE_DISABLED;
		ledger_effect(EFFECT_DISABLED, cause == CAUSE_OPERATION ? CAUSE_IMPLICIT : cause,
					  operation, euicc, other_index, PROFILE_ENABLED, PROFILE_DISABLED);
	}
	profile->state = PROFILE_ENABLED;
	ledger_effect(EFFECT_ENABLED, cause, operation, euicc, index, from, PROFILE_ENABLED);
}

static void
disable_profile(Cause cause, uint32_t operation, uint32_t euicc, uint32_t index)
{
	Profile    *profile = profile_get(index);
	int			from = profile->state;

	profile->state = PROFILE_DISABLED;
	ledger_effect(EFFECT_DISABLED, cause, operation, euicc, index, from, PROFILE_DISABLED);
}

static void
delete_profile(Cause cause, uint32_t operation, uint32_t euicc, uint32_t index)
{
	int			from = profile_get(index)->state;

	profile_detach(index);
	ledger_effect(EFFECT_DELETED, cause, operation, euicc, index, from, PROFILE_ABSENT);
}

static void
carry_out_download(uint32_t index)
{
	Operation  *operation = operation_get(index);
	Server	   *server = server_by_index(operation->server);
	Euicc	   *euicc = euicc_get(operation->euicc);
	Code	   *code = operation->code ? code_get(operation->code - 1) : NULL;
	Profile    *profile;
	bool		here;
	int			from;

	if (code == NULL)
	{
		fail(index, 422, "INVALID_ACTIVATION_CODE", "The activation code is malformed.");
		return;
	}
	profile = profile_get(operation->profile - 1);
	here = profile->euicc == operation->euicc + 1;
	if (code->known_iccid && !id_equal(code->iccid, profile->iccid))
	{
		fail(index, 422, "IDENTIFIER_MISMATCH", "The activation code is for another profile.");
		return;
	}
	if (profile->state != PROFILE_ABSENT &&
		!(here ? server->idempotent : server->redownload == REDOWNLOAD_ANY))
	{
		ledger_already_so();
		fail(index, 409, here ? "ESIM_ALREADY_INSTALLED" : "ESIM_ALREADY_DOWNLOADED",
			 here ? "The profile is already installed on the eUICC." :
			 "The profile has been downloaded to another eUICC.");
		return;
	}
	if (profile->state == PROFILE_ABSENT && server->redownload != REDOWNLOAD_ANY &&
		((profile->spent && (!here || server->redownload == REDOWNLOAD_NEVER)) ||
		 (code->euicc != 0 && code->euicc != operation->euicc + 1)))
	{
		fail(index, 409, "ESIM_ALREADY_DOWNLOADED", "The activation code has been used.");
		return;
	}
	if (euicc->profiles >= euicc->memory)
	{
		fail(index, 422, "INSUFFICIENT_MEMORY", "Not enough memory on the eUICC.");
		return;
	}
	from = profile->state;
	if (profile->state != PROFILE_ABSENT)
		profile_detach(operation->profile - 1);
	profile_attach(operation->profile - 1, operation->euicc);
	profile->code = operation->code;
	ledger_effect(EFFECT_DOWNLOADED, CAUSE_OPERATION, index, operation->euicc,
				  operation->profile - 1, from, PROFILE_DISABLED);
	/* only now: the ledger looks whether the code had been used before */
	code->euicc = operation->euicc + 1;
	if (!code->generic)
		code->known_iccid = true;
	if (operation->flags & OPERATION_ACTIVATE)
		enable_profile(CAUSE_OPERATION, index, operation->euicc, operation->profile - 1);
	succeed(index);
}

static void
carry_out_fallback(uint32_t index)
{
	Operation  *operation = operation_get(index);
	Profile    *profile = profile_get(operation->profile - 1);
	uint32_t	other_index;
	Profile    *other = euicc_fallback(euicc_get(operation->euicc), &other_index);

	if (profile->state != PROFILE_DISABLED)
	{
		fail(index, 422, "ESIM_NOT_DISABLED", "The profile is not disabled.");
		return;
	}
	if (other == profile && !server_by_index(operation->server)->idempotent)
	{
		ledger_already_so();
		succeed(index);
		return;
	}
	if (other != NULL && other != profile)
	{
		other->fallback = false;
		ledger_effect(EFFECT_FALLBACK_UNSET, CAUSE_IMPLICIT, index, operation->euicc,
					  other_index, 1, 0);
	}
	ledger_effect(EFFECT_FALLBACK_SET, CAUSE_OPERATION, index, operation->euicc,
				  operation->profile - 1, profile->fallback, 1);
	profile->fallback = true;
	succeed(index);
}

/* What the device does; the state is checked again, it may have changed. */
static void
carry_out(uint32_t index)
{
	Operation  *operation = operation_get(index);
	Server	   *server = server_by_index(operation->server);
	Profile    *profile = operation->profile ? profile_get(operation->profile - 1) : NULL;

	if (operation->flags & OPERATION_FAILING)
	{
		fail(index, 422, "DEVICE_ERROR", operation->reason);
		return;
	}
	if (operation->kind == KIND_DOWNLOAD)
	{
		carry_out_download(index);
		return;
	}
	if (profile->state == PROFILE_ABSENT || profile->euicc != operation->euicc + 1)
	{
		if (operation->kind == KIND_DELETE)
			ledger_already_so();
		fail(index, 404, "ESIM_NOT_FOUND", "The profile is not on the eUICC.");
		return;
	}
	switch ((Kind) operation->kind)
	{
		case KIND_ENABLE:
			if (profile->state == PROFILE_ENABLED && !server->idempotent)
			{
				ledger_already_so();
				fail(index, 422, "ESIM_NOT_DISABLED", "The profile is not disabled.");
				return;
			}
			enable_profile(CAUSE_OPERATION, index, operation->euicc, operation->profile - 1);
			break;
		case KIND_DISABLE:
			if (profile->state == PROFILE_DISABLED && !server->idempotent)
			{
				ledger_already_so();
				fail(index, 422, "ESIM_NOT_ENABLED", "The profile is not enabled.");
				return;
			}
			disable_profile(CAUSE_OPERATION, index, operation->euicc, operation->profile - 1);
			break;
		case KIND_DELETE:
			if (profile->state != PROFILE_DISABLED)
			{
				fail(index, 422, "ESIM_NOT_DISABLED", "The profile is not disabled.");
				return;
			}
			delete_profile(CAUSE_OPERATION, index, operation->euicc, operation->profile - 1);
			break;
		case KIND_SET_FALLBACK:
			carry_out_fallback(index);
			return;
		case KIND_DOWNLOAD:
		case KINDS:
			return;
	}
	succeed(index);
}

static void
device_answers(void *subject, uint32_t index)
{
	if ((uint32_t) (uintptr_t) subject == epoch)
		euicc_drain(index);
}

/* When the operation that is now at the head will be done. */
static void
begin_head(Euicc *euicc, uint32_t euicc_index)
{
	Operation  *head = operation_get(euicc->queue_head - 1);

	head->due_ms = clock_ms() + head->delay_ms;
	if (head->delay_ms > 0)
		timer_add(head->due_ms, device_answers, (void *) (uintptr_t) epoch, euicc_index);
}

/* Carries out what is due at an eUICC. */
void
euicc_drain(uint32_t index)
{
	Euicc	   *euicc = euicc_get(index);

	while (euicc->queue_head != 0 && euicc->online)
	{
		uint32_t	number = euicc->queue_head - 1;
		Operation  *head = operation_get(number);

		/* begin_head() has set the timer that leads back here */
		if (head->due_ms > clock_ms())
			return;
		euicc->queue_head = head->next;
		if (euicc->queue_head == 0)
			euicc->queue_tail = 0;
		euicc->pending--;
		head->flags &= ~OPERATION_QUEUED;
		carry_out(number);
		if (euicc->queue_head != 0)
			begin_head(euicc, index);
	}
}

/* The provider gives up on a device that has not answered. */
static void
ota_timeout(void *subject, uint32_t number)
{
	Operation  *operation;
	Euicc	   *euicc;
	uint32_t   *link;
	uint32_t	last = 0;

	if ((uint32_t) (uintptr_t) subject != epoch)
		return;
	operation = operation_get(number);
	if (!(operation->flags & OPERATION_QUEUED))
		return;
	euicc = euicc_get(operation->euicc);
	for (link = &euicc->queue_head; *link != number + 1; link = &operation_get(*link - 1)->next)
		last = *link;
	*link = operation->next;
	if (euicc->queue_tail == number + 1)
		euicc->queue_tail = last;
	euicc->pending--;
	operation->flags &= ~OPERATION_QUEUED;
	fail(number, 504, "DEVICE_UNREACHABLE", "The device did not answer in time.");
	if (last == 0 && euicc->queue_head != 0)
	{
		begin_head(euicc, operation->euicc);
		euicc_drain(operation->euicc);
	}
}

/*
 * Accepts an operation and queues it at its eUICC.  "profile" and "code" are
 * an index + 1, 0 for none.  Gives its index; the caller tells the ledger and
 * then calls euicc_drain(), which carries it out if the device can.
 */
uint32_t
operation_accept(Request *request, Kind kind, int dialect, uint32_t euicc_index, uint32_t profile,
				 uint32_t code, bool activate, bool repeat)
{
	Server	   *server = request->server;
	Euicc	   *euicc = euicc_get(euicc_index);
	uint32_t	index;
	Operation  *operation = pool_add(&operations, &index);

	operation->accepted_ms = wall_ms();
	operation->euicc = euicc_index;
	operation->profile = profile;
	operation->code = code;
	operation->request = request->number;
	operation->server = server->index;
	operation->kind = kind;
	operation->dialect = dialect;
	operation->delay_ms = request->device_delay_ms ? request->device_delay_ms :
		euicc->delay_ms >= 0 ? (uint32_t) euicc->delay_ms : server->device_delay_ms;
	if (request->correlator != NULL)
		operation->correlator = ledger_correlator(request->correlator);
	if (activate)
		operation->flags |= OPERATION_ACTIVATE;
	if (repeat)
		operation->flags |= OPERATION_REPEAT;
	if (server->opaque_ids)
		operation->flags |= OPERATION_OPAQUE;
	accepted[kind]++;

	switch (request->device_fault)
	{
		case DEVICE_FAULT_LOST:
			return index;
		case DEVICE_FAULT_UNREPORTED:
			operation->flags |= OPERATION_UNREPORTED;
			break;
		case DEVICE_FAULT_FAIL:
			operation->flags |= OPERATION_FAILING;
			operation->reason = request->device_reason;
			break;
		case DEVICE_FAULT_NONE:
			break;
	}
	operation->flags |= OPERATION_QUEUED;
	euicc->pending++;
	if (euicc->queue_tail != 0)
		operation_get(euicc->queue_tail - 1)->next = index + 1;
	else
		euicc->queue_head = index + 1;
	euicc->queue_tail = index + 1;
	if (euicc->queue_head == index + 1)
		begin_head(euicc, euicc_index);
	if (server->ota_timeout_ms > 0)
		timer_add(clock_ms() + server->ota_timeout_ms, ota_timeout,
				  (void *) (uintptr_t) epoch, index);
	return index;
}

/*
 * An operation that is not queued at its eUICC: of a protocol in which devices
 * fetch their orders.  "profile" and "code" as in operation_accept().
 */
uint32_t
operation_record(Request *request, Kind kind, uint32_t euicc_index, uint32_t profile,
				 uint32_t code, bool repeat)
{
	uint32_t	index;
	Operation  *operation = pool_add(&operations, &index);

	operation->accepted_ms = wall_ms();
	operation->euicc = euicc_index;
	operation->profile = profile;
	operation->code = code;
	operation->request = request->number;
	operation->server = request->server->index;
	operation->kind = kind;
	if (repeat)
		operation->flags |= OPERATION_REPEAT;
	accepted[kind]++;
	return index;
}

/* The device carries it out now. */
void
operation_perform(uint32_t index)
{
	if (operation_get(index)->outcome == OUTCOME_NONE)
		carry_out(index);
}

/* It has ended in a way that the protocol knows. */
void
operation_close(uint32_t index, bool good, const char *reason)
{
	if (operation_get(index)->outcome != OUTCOME_NONE)
		return;
	if (good)
		succeed(index);
	else
		fail(index, 422, "DEVICE_ERROR", reason);
}

/* It will not be carried out. */
void
operation_give_up(uint32_t index, const char *reason)
{
	operation_close(index, false, reason);
}

/*
 * The device changes its state by itself.  Gives NULL, or why it cannot.
 */
const char *
device_event(uint32_t euicc_index, const char *what, bool has_iccid, Id iccid)
{
	Euicc	   *euicc = euicc_get(euicc_index);
	uint32_t	index = 0;
	Profile    *profile = NULL;

	if (strcmp(what, "reset") == 0)
	{
		while (euicc->first_profile != 0)
			delete_profile(CAUSE_DEVICE, UINT32_MAX, euicc_index, euicc->first_profile - 1);
		return NULL;
	}
	if (strcmp(what, "fallback") == 0)
	{
		profile = euicc_fallback(euicc, &index);
		if (profile == NULL)
			return "no profile has the fallback attribute";
	}
	else
	{
		if (has_iccid)
			profile = profile_find(iccid, &index);
		else if (strcmp(what, "local_disable") == 0)
			profile = euicc_enabled(euicc, &index);
		if (profile == NULL || profile->state == PROFILE_ABSENT ||
			profile->euicc != euicc_index + 1)
			return "the profile is not on the eUICC";
	}
	if (strcmp(what, "local_enable") == 0 || strcmp(what, "fallback") == 0)
	{
		if (profile->state == PROFILE_ENABLED)
			return "the profile is enabled";
		enable_profile(CAUSE_DEVICE, UINT32_MAX, euicc_index, index);
	}
	else if (strcmp(what, "local_disable") == 0)
	{
		if (profile->state == PROFILE_DISABLED)
			return "the profile is disabled";
		disable_profile(CAUSE_DEVICE, UINT32_MAX, euicc_index, index);
	}
	else if (strcmp(what, "delete") == 0)
		delete_profile(CAUSE_DEVICE, UINT32_MAX, euicc_index, index);
	else
		return "unknown event";
	return NULL;
}

void
operation_counts_json(Buf *out)
{
	uint64_t	sums[3] = {0, 0, 0};
	int			kind;

	buf_text(out, "{");
	for (kind = 0; kind < KINDS; kind++)
	{
		buf_format(out, "\"%s\":{\"accepted\":%" PRIu64 ",\"succeeded\":%" PRIu64
				   ",\"failed\":%" PRIu64 "},", kind_names[kind], accepted[kind],
				   succeeded[kind], failed[kind]);
		sums[0] += accepted[kind];
		sums[1] += succeeded[kind];
		sums[2] += failed[kind];
	}
	buf_format(out, "\"accepted\":%" PRIu64 ",\"succeeded\":%" PRIu64 ",\"failed\":%" PRIu64
			   ",\"pending\":%" PRIu64 "}", sums[0], sums[1], sums[2],
			   sums[0] - sums[1] - sums[2]);
}

void
operation_reset(void)
{
	pool_reset(&operations);
	memset(accepted, 0, sizeof(accepted));
	memset(succeeded, 0, sizeof(succeeded));
	memset(failed, 0, sizeof(failed));
	epoch++;
}
