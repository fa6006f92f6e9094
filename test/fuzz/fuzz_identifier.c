/*
 * fuzz_identifier.c
 *		Fuzzer of the identifier parsers, with the properties they must keep.
 */
#include "activation_code.h"
#include "eid.h"
#include "iccid.h"
#include "fuzz.h"

static int
sign(int n)
{
	return (n > 0) - (n < 0);
}

/*
 * What prints must read as the same value, sort as its text, go to the card
 * and back; what fails must name a place within the text.
 */
static void
fuzz_iccid(const char *text, size_t len)
{
	static Iccid before = ICCID_INVALID;
	static char before_digits[ICCID_TEXT_SIZE];
	Iccid		v,
				again;
	IccidError	error;
	char		digits[ICCID_TEXT_SIZE];
	uint8_t		card[ICCID_CARD_SIZE];
	bool		checked = iccid_parse(text, len, true, &v, NULL);
	int			n;

	if (!iccid_parse(text, len, false, &v, &error))
	{
		MUST(!checked);
		MUST(error.status != ICCID_OK && error.status != ICCID_CHECK_DIGIT);
		if (error.status == ICCID_CHARACTER || error.status == ICCID_HEXADECIMAL)
		{
			MUST(error.position >= 1 && (size_t) error.position <= len);
			MUST(text[error.position - 1] == error.character);
		}
		return;
	}
	MUST(v != ICCID_INVALID && v < (Iccid) 1 << 62);
	n = iccid_format(v, digits);
	MUST(n >= ICCID_MIN_LEN && n <= ICCID_MAX_LEN && strlen(digits) == (size_t) n);
	MUST(iccid_parse(digits, (size_t) n, false, &again, NULL) && again == v);
	MUST(iccid_check(v) == checked);
	MUST((iccid_luhn(digits, (size_t) n - 1) == digits[n - 1]) == checked);
	if (!checked)
	{
		MUST(!iccid_parse(digits, (size_t) n, true, &again, &error));
		MUST(error.status == ICCID_CHECK_DIGIT);
		digits[n - 1] = error.expected;
		MUST(iccid_parse(digits, (size_t) n, true, &again, NULL));
		iccid_format(v, digits);
	}
	iccid_to_card(v, card);
	MUST(iccid_from_card(card, &again) && again == v);

	if (before != ICCID_INVALID)
	{
		MUST(iccid_compare(v, before) == sign(strcmp(digits, before_digits)));
		MUST(iccid_compare(before, v) == -iccid_compare(v, before));
	}
	before = v;
	strcpy(before_digits, digits);
}

/*
 * Octets that read as a form on the card must write the same octets.
 */
static void
fuzz_card(const uint8_t *data, size_t size)
{
	Iccid		v;
	uint8_t		card[ICCID_CARD_SIZE];

	if (size < ICCID_CARD_SIZE || !iccid_from_card(data, &v))
		return;
	iccid_to_card(v, card);
	MUST(memcmp(card, data, ICCID_CARD_SIZE) == 0);
}

static void
fuzz_eid(const char *text, size_t len)
{
	static Eid	before;
	static char before_digits[EID_TEXT_SIZE];
	Eid			v,
				again;
	EidError	error;
	char		digits[EID_TEXT_SIZE];
	bool		checked = eid_parse(text, len, true, &v, NULL);

	if (!eid_parse(text, len, false, &v, &error))
	{
		MUST(!checked);
		MUST(error.status != EID_OK && error.status != EID_CHECK_DIGITS);
		if (error.status == EID_CHARACTER)
		{
			MUST(error.position >= 1 && (size_t) error.position <= len);
			MUST(text[error.position - 1] == error.character);
		}
		return;
	}
	eid_format(&v, digits);
	MUST(strlen(digits) == EID_LEN);
	MUST(eid_parse(digits, EID_LEN, false, &again, NULL) && eid_compare(&v, &again) == 0);
	MUST(eid_from_octets(v.octet, &again) && eid_compare(&v, &again) == 0);
	MUST(eid_check(&v) == checked);
	if (!checked)
	{
		MUST(!eid_parse(digits, EID_LEN, true, &again, &error));
		MUST(error.status == EID_CHECK_DIGITS);
		memcpy(digits + EID_LEN - 2, error.expected, 2);
		MUST(eid_parse(digits, EID_LEN, true, &again, NULL));
		eid_format(&v, digits);
	}

	if (before_digits[0] != '\0')
		MUST(sign(eid_compare(&v, &before)) == sign(strcmp(digits, before_digits)));
	before = v;
	strcpy(before_digits, digits);
}

/*
 * The normalised text must read as itself, be built of its own fields, equal
 * itself in another case of the host, and compare the same both ways.
 */
static void
fuzz_activation_code(const char *text, size_t len)
{
	static ActivationCode before;
	ActivationCode code,
				again;
	ActivationCodeError error;
	char		folded[ACTIVATION_CODE_MAX_LEN];
	char		lpa[ACTIVATION_CODE_MAX_LEN + 4];
	int			c;

	if (!activation_code_parse(text, len, &code, &error))
	{
		MUST(error.status != AC_OK);
		switch (error.status)
		{
			case AC_ADDRESS_URL:
			case AC_ADDRESS_CHARACTER:
			case AC_MATCHING_ID_CHARACTER:
			case AC_REST_CHARACTER:
				MUST(error.offset < len && text[error.offset] == error.character);
				break;
			default:
				break;
		}
		return;
	}
	MUST(code.length <= ACTIVATION_CODE_MAX_LEN && strlen(code.text) == code.length);
	MUST(code.address.length > 0);
	MUST(activation_code_parse(code.text, code.length, &again, NULL));
	MUST(memcmp(&code, &again, sizeof(code)) == 0);

	memcpy(lpa, "lPa:", 4);
	memcpy(lpa + 4, code.text, code.length);
	MUST(activation_code_parse(lpa, code.length + 4, &again, NULL));
	MUST(memcmp(&code, &again, sizeof(code)) == 0);

	activation_code_fold(code.text, code.length, folded);
	MUST(activation_code_parse(folded, code.length, &again, NULL));
	MUST(activation_code_compare(code.text, code.length, again.text, again.length) == 0);

	if (code.rest.length == 0)
	{
		MUST(activation_code_build(code.text + code.address.offset, code.address.length,
								   code.text + code.matching_id.offset, code.matching_id.length,
								   code.text + code.smdp_oid.offset, code.smdp_oid.length,
								   code.confirmation_required, &again, NULL));
		MUST(strcmp(code.text, again.text) == 0);
	}

	if (before.length > 0)
	{
		char		folded_before[ACTIVATION_CODE_MAX_LEN];
		size_t		n = code.length < before.length ? code.length : before.length;
		int			expected;

		activation_code_fold(before.text, before.length, folded_before);
		expected = sign(memcmp(folded, folded_before, n));
		if (expected == 0)
			expected = (code.length > before.length) - (code.length < before.length);
		c = activation_code_compare(code.text, code.length, before.text, before.length);
		MUST(c == expected);
		MUST(c == -activation_code_compare(before.text, before.length, code.text, code.length));
	}
	before = code;
}

/*
 * Fields from outside cannot make more fields than they are.
 */
static void
fuzz_build(const char *text, size_t len)
{
	size_t		third = len / 3;
	ActivationCode code;

	if (!activation_code_build(text, third, text + third, third, text + 2 * third, len - 2 * third,
							   (len & 1) != 0, &code, NULL))
		return;
	MUST(code.address.length == third && memcmp(code.text + code.address.offset, text, third) == 0);
	MUST(code.matching_id.length == third);
	MUST(code.smdp_oid.length == len - 2 * third);
	MUST(code.confirmation_required == ((len & 1) != 0));
	MUST(code.rest.length == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *) data;

	fuzz_iccid(text, size);
	fuzz_card(data, size);
	fuzz_eid(text, size);
	fuzz_activation_code(text, size);
	fuzz_build(text, size);
	return 0;
}
