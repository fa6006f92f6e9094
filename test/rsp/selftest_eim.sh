#!/usr/bin/env bash
#
# selftest_eim.sh
#	Tests the simulator's eIM by itself, with curl.  Prints TAP.
#
. "$(dirname "$0")/lib.sh"
limit=5

settings() { control config "{\"server\":\"main\",\"eim\":$1}"; }
advance() { control clock "{\"advance_ms\":$1}"; }
eim_count() { request GET "$url/control/eim"; number "$1"; }

# create FACILITY BODY [curl option]...: sets id
create()
{
	local facility=$1 data=$2
	shift 2
	request POST "$url/main/eim/$facility/create" "$data" "$@"
	id=$(sed -n "s#^Location: /$facility/lookup/##p" <<<"$headers")
}
lookup() { request GET "$url/main/eim/$1/lookup/$id"; }
psmo() { create psmo "{\"eidValue\":\"$eid\",\"order\":{\"psmo\":[$1]}}"; }
download() { create download "{\"eidValue\":\"$eid\",\"order\":{\"download\":{\"activationCode\":\"$1\"}}}"; }
outcome() { lookup psmo; sed -n 's/.*"outcome":\(.*\),"debuginfo".*/\1/p' <<<"$body"; }

a=8944478600003770170
card_a=984474680000730771F0
b=89457300000021819183
card_b=98543700000012181938
install()
{
	control reset '{}'
	control euicc "{\"eid\":\"$eid\",\"profiles\":[{\"iccid\":\"$a\"},{\"iccid\":\"$b\",\"state\":\"ENABLED\"}]}"
}
enable_a="{\"enable\":{\"iccid\":\"$card_a\",\"rollback\":false}}"

start main

# ---- the life of a profile ----

download "1\$rsp.example.com\$X-$a"
is 'create: 303' "$status" 303
is 'without a body' "$body" ''
like 'Location leads to the look-up' "$headers" 'Location: /download/lookup/'
is 'the id is a UUID' "$(grep -cE '^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' <<<"$id")" 1
lookup download
like 'done' "$body" '{"status":"done","timestamp":"1'
like 'with the resource as it was sent' "$body" "\"resource\":{\"eidValue\":\"$eid\",\"order\":{\"download\":{\"activationCode\":\"1\$rsp.example.com\$X-$a\"}}}"
like 'and the ICCID as on the card' "$body" "\"outcome\":[{\"profileInstallationResult\":{\"finalResult\":\"successResult\",\"iccid\":\"$card_a\"}}]"
lookup psmo
is 'not there in another facility' "$body" '{"status":"absent"}'
request GET "$url/main/eim/download/list"
is 'list' "$body" "{\"resourceIdList\": [\"$id\"]}"
request GET "$url/main/eim/psmo/list/"
is 'list of another facility' "$body" '{"resourceIdList": []}'
request GET "$url/main/eim/download/delete/$id"
is 'delete' "$body" '{"status":"deleted"}'
request GET "$url/main/eim/download/delete/$id"
is 'delete again' "$body" '{"status":"absent"}'
psmo "$enable_a"
is 'enable' "$(outcome)" '[{"enableResult":"ok"}]'
psmo "$enable_a"
is 'enable again' "$(outcome)" '[{"enableResult":"profileNotInDisabledState"}]'
psmo '{"listProfileInfo":{}}'
like 'listProfileInfo' "$(outcome)" "[{\"listProfileInfoResult\":{\"finalResult\":\"successResult\",\"profileInfoList\":[{\"iccid\":\"$card_a\",\"isdpAid\":\"A0"
like 'state and class' "$(outcome)" '"profileState":"enabled"'
psmo "{\"delete\":{\"iccid\":\"$card_a\"}}"
is 'delete of an enabled profile' "$(outcome)" '[{"deleteResult":"profileNotInDisabledState"}]'
psmo "{\"disable\":{\"iccid\":\"$card_a\"}},{\"delete\":{\"iccid\":\"$card_a\"}}"
is 'disable and delete in one package' "$(outcome)" '[{"disableResult":"ok"},{"deleteResult":"ok"}]'
psmo "{\"disable\":{\"iccid\":\"$card_a\"}},{\"delete\":{\"iccid\":\"$card_a\"}}"
is 'the first failure ends the package' "$(outcome)" '[{"disableResult":"iccidOrAidNotFound"},{"processingTerminated":"undefinedError"}]'
download "1\$rsp.example.com\$X-$a"
lookup download
like 'the code again, same eUICC' "$body" successResult
create download "{\"eidValue\":\"$eid2\",\"order\":{\"download\":{\"activationCode\":\"1\$rsp.example.com\$X-$a\"}}}"
lookup download
like 'another eUICC' "$body" '"outcome":[{"procedureError":"authenticateClientError"}]'
install
psmo "{\"enable\":{\"iccid\":\"$card_a\",\"rollback\":true}},{\"listProfileInfo\":{}}"
is 'no list behind a change' "$(outcome)" '[{"enableResult":"ok"},{"listProfileInfoResult":{"finalResult":"errorResult"}}]'
request GET "$url/main/eim/"
like 'info page' "$body" '"eimId"'

# ---- the traps ----

install
create psmo "{\"order\":{\"psmo\":[$enable_a]},\"eidValue\":\"$eid\"}"
is 'order before eidValue: 500' "$status" 500
create psmo "{\"eidValue\":\"$eid\",\"order\":{\"psmo\":[$enable_a]},\"x\":1}"
is 'a third member: 500' "$status" 500
create psmo "{\"eidValue\":\"$eid\"}"
is 'a member less: 500' "$status" 500
create psmo '{"eidValue"'
is 'no JSON: 500' "$status" 500
create psmo ''
is 'no body' "$status" 415
download '1$SM-DP+.EXAMPLE.COM$X=1'
is 'a raw = : 500' "$status" 500
download '1$SM-DP.EXAMPLE.COM$X&1'
is 'a raw & : 500' "$status" 500
download '1$SM-DP.EXAMPLE.COM$X%zz'
is 'a raw %: 400' "$status" 400
create psmo "{\"eidValue\":\"$eid\",\"order\":{\"psmo\":[$enable_a]},\"x\":\"$(head -c 64000 /dev/zero | tr '\0' x)\"}"
is 'too long for a form: 413' "$status" 413
download '1$SM-DP+.EXAMPLE.COM$X'
lookup download
like 'a raw + becomes a blank' "$body" '1$SM-DP .EXAMPLE.COM$X'
download '1$SM-DP\u002b.EXAMPLE.COM$X\u003d\u0026\u0025'
lookup download
like 'written otherwise they pass' "$body" '1$SM-DP+.EXAMPLE.COM$X=&%'
create psmo '' -H 'Content-Type: text/plain' --data-binary "{\"eidValue\":\"$eid\",\"order\":{\"psmo\":[$enable_a]}}"
is 'another content type: 415' "$status" 415
create psmo '' -H 'Content-Type: application/json; charset=utf-8' --data-binary "{\"eidValue\":\"$eid\",\"order\":{\"psmo\":[$enable_a]}}"
is 'with a charset: 415' "$status" 415
psmo "{\"enable\":{\"rollback\":false,\"iccid\":\"$card_a\"}}"
is 'rollback before iccid' "$(outcome)" '[{"procedureError":"badPsmo"}]'
psmo "{\"enable\":{\"iccid\":\"$card_a\"}}"
is 'without rollback' "$(outcome)" '[{"procedureError":"badPsmo"}]'
psmo "{\"setFallbackAttribute\":{\"iccid\":\"$card_a\"}}"
is 'set-fallback is accepted' "$status" 303
is 'and not known' "$(outcome)" '[{"procedureError":"badPsmo"}]'
psmo "$enable_a,{\"unsetFallbackAttribute\":{}}"
is 'one that is not known spoils the package' "$(outcome)" '[{"procedureError":"badPsmo"}]'
request GET "$url/main/eim/psmo/create"
is 'GET create: 500' "$status" 500
request POST "$url/main/eim/psmo/lookup/$id" '{}'
is 'POST lookup: 500' "$status" 500
request PUT "$url/main/eim/psmo/create" '{}'
is 'PUT: 405' "$status" 405
request GET "$url/main/eim/nosuch/list"
is 'no such facility: 404' "$status" 404
request GET "$url/main/eim/psmo/list" '' -H 'Accept: text/html'
is 'Accept: text/html: 406' "$status" 406
lookup download
unlike 'a malformed download is accepted' "$status" 500
create download "{\"eidValue\":\"$eid\",\"order\":{\"activationCode\":\"1\$rsp.example.com\$X\"}}"
lookup download
like 'and broken off when it is fetched' "$body" '[{"procedureError":"abortedOrder"}]'
request GET "$url/main/eim/download/lookup/$id/"
like 'a slash at the end counts for nothing' "$body" abortedOrder
request DELETE "$url/main/eim/nosuch/list"
is 'the router comes before the method' "$status" 404
psmo '{"listProfileInfo":{"tagList":"5A9F70"}}'
like 'a list of what is asked for' "$(outcome)" "[{\"iccid\":\"$card_a\",\"profileState\":\"disabled\"},"
psmo '{"listProfileInfo":{"taglist":"5A"}}'
is 'the schema has another name for it' "$(outcome)" '[{"procedureError":"badPsmo"}]'

# ---- a long list ----

install
for i in $(seq 52); do psmo '{"getRAT":{}}'; done
request GET "$url/main/eim/psmo/list"
is '52 orders are listed' "$status $(grep -o '"[0-9a-f-]*"' <<<"$body" | wc -l)" '200 52'
psmo '{"getRAT":{}}'
request GET "$url/main/eim/psmo/list"
is '53 are too many' "$status" 500
lookup psmo
is 'the look-up of one goes on' "$status" 200
settings '{"long_lists":true}'
request GET "$url/main/eim/psmo/list"
is 'unless it is told otherwise' "$status $(grep -o '"[0-9a-f-]*"' <<<"$body" | wc -l)" '200 53'

# ---- SGP.32 v1.2 ----

install
settings '{"v12":true}'
psmo "{\"setFallbackAttribute\":{\"iccid\":\"$card_a\"}}"
is 'v1.2: set-fallback' "$(outcome)" '[{"setFallbackAttributeResult":"ok"}]'
psmo '{"listProfileInfo":{}}'
like 'the list tells' "$(outcome)" '"fallbackAttribute":true'
psmo "$enable_a"
psmo "{\"setFallbackAttribute\":{\"iccid\":\"$card_b\"}}"
is 'not while the present one is enabled' "$(outcome)" '[{"setFallbackAttributeResult":"fallbackProfileEnabled"}]'
psmo "{\"enable\":{\"iccid\":\"$card_b\",\"rollback\":false}}"
psmo '{"unsetFallbackAttribute":{}}'
is 'unset' "$(outcome)" '[{"unsetFallbackAttributeResult":"ok"}]'
psmo '{"unsetFallbackAttribute":{}}'
is 'unset again' "$(outcome)" '[{"unsetFallbackAttributeResult":"noFallbackAttribute"}]'

# ---- devices that come late, and the eIM's patience ----

install
control euicc "{\"eid\":\"$eid\",\"online\":false}"
psmo "$enable_a"
lookup psmo
like 'offline: new' "$body" '"status":"new"'
is 'no outcome yet' "$(outcome)" '[]'
advance 1790000
is 'still new' "$(lookup psmo; grep -o '"status":"[a-z]*"' <<<"$body")" '"status":"new"'
advance 12000
is 'then noshow' "$(outcome)" '[{"procedureError":"noshowOrder"}]'
control euicc "{\"eid\":\"$eid\",\"online\":true}"
is 'and it is not done when the device comes' "$(ledger enabled)" 0
control euicc "{\"eid\":\"$eid\",\"offline_ms\":259200000}"
psmo "$enable_a"
settings '{"noshow_s":2592000}'
advance 259201000
sleep 0.1
is 'back after three days' "$(outcome)" '[{"enableResult":"ok"}]'
advance 86402000
lookup psmo
is 'what is done is forgotten after a day' "$body" '{"status":"absent"}'
install
control euicc "{\"eid\":\"$eid\",\"delay_ms\":60000}"
psmo "$enable_a"
lookup psmo
like 'polls late' "$body" '"status":"new"'
advance 60000
sleep 0.1
is 'but polls' "$(outcome)" '[{"enableResult":"ok"}]'
install
settings '{"work_ms":60000}'
psmo "$enable_a"
lookup psmo
like 'at work' "$body" '"status":"work"'
control eim/restart '{}'
is 'restarted meanwhile' "$(outcome)" '[{"procedureError":"abortedOrder"}]'
advance 60000
sleep 0.1
is 'the device does it all the same' "$(ledger enabled)" 1
install
settings '{"work_ms":60000}'
psmo "$enable_a"
request GET "$url/main/eim/psmo/delete/$id"
lookup psmo
is 'deleted while at work' "$body" '{"status":"absent"}'
advance 60000
sleep 0.1
is 'the device does that all the same' "$(ledger enabled)" 1
install
control euicc "{\"eid\":\"$eid\",\"online\":false}"
psmo "$enable_a"
request GET "$url/main/eim/psmo/delete/$id"
control euicc "{\"eid\":\"$eid\",\"online\":true}"
is 'deleted while new: not done' "$(ledger enabled)" 0
is 'is counted' "$(eim_count revoked)" 1
install
control euicc "{\"eid\":\"$eid\",\"online\":false}"
psmo "$enable_a"
psmo "{\"disable\":{\"iccid\":\"$card_b\"}}"
is 'two open orders of an eUICC are counted' "$(eim_count overlaps)" 1

# ---- faults ----

install
fault '{"fault":"device_fail","reason":"rollback","count":1}'
psmo "{\"enable\":{\"iccid\":\"$card_a\",\"rollback\":true}}"
is 'rollback' "$(outcome)" '[{"enableResult":"ok"},{"rollbackResult":"ok"}]'
request GET "$url/control/euicc?eid=$eid"
like 'the former one is enabled' "$body" "\"iccid\":\"$b\",\"state\":\"ENABLED\""
fault '{"fault":"device_fail","reason":"catBusy","count":1}'
psmo "$enable_a"
is 'a name of v1.2 is a number in v1.0' "$(outcome)" '[{"enableResult":5}]'
fault '{"fault":"device_fail","reason":"euiccPackageErrorCode:replayError","count":1}'
psmo "$enable_a"
is 'package refused' "$(outcome)" '[{"euiccPackageErrorCode":"replayError"}]'
fault '{"fault":"device_fail","reason":"effect:procedureError:euiccSignatureInvalid","count":1}'
psmo "$enable_a"
is 'another answer than the truth' "$(outcome)" '[{"procedureError":"euiccSignatureInvalid"}]'
is 'with the effect' "$(request GET "$url/control/ledger?entries=1"; grep -o '"what":"enabled","cause":"operation"' <<<"$body" | wc -l)" 2
fault '{"fault":"device_fail","reason":"cancel","count":1}'
download "1\$rsp.example.com\$Y"
lookup download
like 'cancelled by the device' "$body" '[{"cancelSessionResult":"ok"}]'
fault '{"fault":"memory_full","count":1}'
download "1\$rsp.example.com\$Y"
lookup download
like 'memory full' "$body" '[{"profileInstallationResult":{"finalResult":"errorResult"}}]'
install
fault '{"fault":"device_unreported","count":1}'
psmo "$enable_a"
lookup psmo
like 'never reported: work' "$body" '"status":"work"'
is 'but done' "$(ledger enabled)" 1
advance 301000
is 'then stuck' "$(outcome)" '[{"procedureError":"stuckOrder"}]'
fault '{"fault":"device_lost","count":1}'
psmo "{\"enable\":{\"iccid\":\"$card_b\",\"rollback\":false}}"
lookup psmo
like 'never fetched' "$body" '"status":"new"'
install
fault '{"fault":"timeout_after_effect","path":"/psmo/create","count":1,"ms":300}'
psmo "$enable_a"
is 'a time-out after the effect' "$status" 000
request GET "$url/main/eim/psmo/list"
id=$(grep -o '[0-9a-f]\{8\}-[0-9a-f-]*' <<<"$body")
is 'the order is there' "$(outcome)" '[{"enableResult":"ok"}]'
fault '{"fault":"redirect","effect":true,"path":"/psmo/create","location":"http://elsewhere.invalid/x"}'
psmo "$enable_a"
is 'redirect' "$status" 307
fault '{"fault":"status","status":503,"path":"/lookup/"}'
lookup psmo
is 'status' "$status" 503
is 'without a body' "$body" ''
install
fault '{"fault":"device_fail","reason":"[{\"enableResult\":5},{\"processingTerminated\":\"interruption\"}]","count":1}'
psmo "$enable_a"
is 'an outcome as it is given' "$(outcome)" '[{"enableResult":5},{"processingTerminated":"interruption"}]'
is 'without the effect' "$(ledger enabled)" 0
fault '{"fault":"edit","from":"\"done\"","to":"\"lost\"","path":"/lookup/"}'
lookup psmo
like 'a part of the answer is another' "$body" '{"status":"lost","timestamp":'
fault '{"fault":"edit","to":"[1]","path":"/lookup/"}'
lookup psmo
is 'all of the answer is another' "$body" '[1]'
no_fault

# ---- the ledger ----

install
psmo "$enable_a"
psmo "{\"disable\":{\"iccid\":\"$card_a\"}}"
psmo "$enable_a"
is 'the opposite in between: no repeat' "$(ledger repeats)" 0
psmo "$enable_a"
is 'a repeat' "$(ledger repeats)" 1
is 'that no ask went before' "$(ledger unasked_repeats)" 1
lookup psmo
psmo "$enable_a"
is 'after a failure that was read: a new one' "$(ledger repeats)" 1
install
psmo "$enable_a"
request GET "$url/main/eim/psmo/list"
psmo "$enable_a"
is 'a list is an ask' "$(ledger unasked_repeats)" 0
is 'and it is so already' "$(ledger already_so)" 1
is 'no effect twice' "$(ledger double_effects)" 0
install
control euicc "{\"eid\":\"$eid\",\"online\":false}"
psmo "$enable_a"
advance 1802000
lookup psmo
psmo "$enable_a"
is 'handed in again after noshow: no repeat' "$(ledger repeats)" 0

finish
