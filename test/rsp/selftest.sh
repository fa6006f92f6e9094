#!/usr/bin/env bash
#
# selftest.sh
#	Tests the RSP simulator by itself, with curl.  Prints TAP.
#
. "$(dirname "$0")/lib.sh"

r12() { request POST "$url/main/esim-profile-management/vwip/$1" "$2" "${@:3}"; }
old() { request POST "$url/main/esim/vwip/esim/$1" "$2" "${@:3}"; }
operation() { request GET "$url/main/esim-profile-management/vwip/operations/$1"; }
old_operation() { request GET "$url/main/esim/vwip/esim/operations/$1"; }
id_of_answer() { sed -n 's/.*"operationId":"\([^"]*\)".*/\1/p' <<<"$body"; }

a=8901260123456789012
b=8901260123456789020
sink='"sink":"https://sink.example.com/x"'
install() { control euicc "{\"eid\":\"$eid\",\"profiles\":[{\"iccid\":\"$a\"},{\"iccid\":\"$b\"}]}"; }

start main --ledger-out="$dir/ledger.json"
main_pid=${pids[0]}
like 'prints its address' "$url" 'http://127.0.0.1:'

# ---- release 1.2: the life of a profile ----

r12 download "{\"esimProfile\":{\"eid\":\"$eid\"},\"activationCode\":\"LPA:1\$rsp.example.com\$$a\"}" -H 'x-correlator: a/b<c>{d}'
is 'r1.2 download is accepted' "$status" 202
like 'status is ACCEPTED' "$body" '"status":"ACCEPTED"'
unlike 'no ICCID before the download is done' "$body" iccid
like 'x-correlator comes back' "$headers" 'x-correlator: a/b<c>{d}'
like 'Location is an absolute URL' "$headers" "Location: $url/main/esim-profile-management/vwip/operations/$(id_of_answer)"
location=$(sed -n 's/^Location: //p' <<<"$headers")
request GET "$location"
like 'Location leads to the operation' "$body" '"status":"COMPLETED"'
like 'the ICCID of the matching ID is assigned' "$body" "\"assignedIccid\":\"$a\""
like 'outcome SUCCESS' "$body" '"outcome":"SUCCESS"'
r12 enable "{\"esimProfile\":{\"iccid\":\"$a\"}}"
is 'enable is accepted' "$status" 202
operation "$(id_of_answer)"
like 'enable succeeds' "$body" '"outcome":"SUCCESS"'
r12 enable "{\"esimProfile\":{\"iccid\":\"$a\"}}"
is 'enabling what is enabled: 409' "$status" 409
like 'INCOMPATIBLE_STATE' "$body" INCOMPATIBLE_STATE
r12 delete "{\"esimProfile\":{\"iccid\":\"$a\"}}"
is 'delete of an enabled profile: 409' "$status" 409
r12 set-fallback "{\"esimProfile\":{\"iccid\":\"$a\"}}"
is 'set-fallback of an enabled profile: 409' "$status" 409
r12 download "{\"esimProfile\":{\"eid\":\"$eid\"},\"activationCode\":\"1\$rsp.example.com\$X-$b\"}"
r12 set-fallback "{\"esimProfile\":{\"iccid\":\"$b\",\"eid\":\"$eid\"}}"
is 'set-fallback of a disabled profile' "$status" 202
r12 retrieve-status "{\"esimProfile\":{\"eid\":\"$eid\"}}"
is 'retrieve-status lists all' "$body" "{\"esimProfiles\":[{\"eid\":\"$eid\",\"iccid\":\"$a\",\"state\":\"ENABLED\",\"isFallback\":false},{\"eid\":\"$eid\",\"iccid\":\"$b\",\"state\":\"DISABLED\",\"isFallback\":true}]}"
r12 retrieve-status "{\"esimProfile\":{\"iccid\":\"$b\"}}"
is 'retrieve-status of one' "$body" "{\"esimProfiles\":[{\"eid\":\"$eid\",\"iccid\":\"$b\",\"state\":\"DISABLED\",\"isFallback\":true}]}"
r12 enable "{\"esimProfile\":{\"iccid\":\"$b\"}}"
request GET "$url/control/euicc?eid=$eid"
like 'enabling one disables the other' "$body" "\"iccid\":\"$a\",\"state\":\"DISABLED\""
r12 disable "{\"esimProfile\":{\"iccid\":\"$b\"}}"
is 'disable is accepted' "$status" 202
r12 disable "{\"esimProfile\":{\"iccid\":\"$b\"}}"
is 'disabling what is disabled: 409' "$status" 409
r12 delete "{\"esimProfile\":{\"iccid\":\"$a\"}}"
is 'delete is accepted' "$status" 202
r12 retrieve-status "{\"esimProfile\":{\"iccid\":\"$a\"}}"
is 'a deleted profile: 404' "$status" 404
like 'IDENTIFIER_NOT_FOUND' "$body" IDENTIFIER_NOT_FOUND
r12 enable "{\"esimProfile\":{\"iccid\":\"$b\",\"eid\":\"$eid2\"}}"
is 'another EID: 422' "$status" 422
like 'IDENTIFIER_MISMATCH' "$body" IDENTIFIER_MISMATCH
r12 retrieve-status "{\"esimProfile\":{\"iccid\":\"$b\",\"eid\":\"$eid2\"}}"
is 'retrieve-status with another EID: 422' "$status" 422
r12 enable '{"esimProfile":{"iccid":"8901260123456789999"}}'
is 'unknown ICCID: 404' "$status" 404
operation 00000000-0000-4000-8000-000000000000
is 'unknown operation: 404' "$status" 404
like 'NOT_FOUND' "$body" '"code":"NOT_FOUND"'
r12 download "{\"esimProfile\":{\"eid\":\"$eid2\"},\"activationCode\":\"1\$rsp.example.com\$X-$b\"}"
operation "$(id_of_answer)"
like 'a code downloads once: FAILED on another eUICC' "$body" '"outcome":"FAILED","failureReason":"'
r12 download "{\"esimProfile\":{\"eid\":\"$eid\"},\"activationCode\":\"nonsense\"}"
operation "$(id_of_answer)"
like 'a malformed code fails at the device' "$body" '"outcome":"FAILED"'
request GET "$url/control/ledger?iccid=$a"
is 'ledger of one ICCID' "$(grep -o '"what":"[a-z]*"' <<<"$body" | tr '\n' ' ')" '"what":"deleted" "what":"disabled" "what":"enabled" "what":"downloaded" '
like 'ledger has the correlator' "$body" '"correlator":"a/b<c>{d}"'
is 'no double effects' "$(ledger double_effects)" 0

# ---- what release 1.2 refuses ----

bad()	# bad NAME PATH BODY WANTED-IN-BODY [curl option]...
{
	r12 "$2" "$3" "${@:5}"
	is "r1.2 $1: 400" "$status" 400
	like "r1.2 $1: code and message" "$body" "$4"
}
bad 'unknown property' enable "{\"esimProfile\":{\"iccid\":\"$b\"},\"sink\":\"https://x.example.com\"}" 'sink is not declared'
bad 'unknown nested property' enable "{\"esimProfile\":{\"iccid\":\"$b\",\"x\":1}}" 'esimProfile.x is not declared'
bad 'no iccid' enable "{\"esimProfile\":{\"eid\":\"$eid\"}}" 'esimProfile.iccid is required'
bad 'no esimProfile' enable '{}' 'esimProfile is required'
bad '18 digits' enable '{"esimProfile":{"iccid":"890126012345678901"}}' 'INVALID_ARGUMENT'
bad '21 digits' enable '{"esimProfile":{"iccid":"890126012345678901234"}}' 'must match'
bad 'hex ICCID' enable '{"esimProfile":{"iccid":"890126012345678901F"}}' 'must match'
bad 'number as ICCID' enable '{"esimProfile":{"iccid":8901260123456789012}}' 'must be a string'
bad 'null as ICCID' enable '{"esimProfile":{"iccid":null}}' 'must be a string'
bad 'EID of 31 digits' download '{"esimProfile":{"eid":"8904903200000000000000000000001"},"activationCode":"1$a$b"}' 'esimProfile.eid must match'
bad 'no activation code' download "{\"esimProfile\":{\"eid\":\"$eid\"}}" 'activationCode is required'
bad 'activation code of 257' download "{\"esimProfile\":{\"eid\":\"$eid\"},\"activationCode\":\"$(printf '%0257d' 0)\"}" 'at most 256'
bad 'activateOnDownload' download "{\"esimProfile\":{\"eid\":\"$eid\"},\"activationCode\":\"1\$a\$b\",\"activateOnDownload\":true}" 'not declared'
bad 'status of nothing' retrieve-status '{"esimProfile":{}}' 'eid or iccid'
bad 'array as body' enable '[]' 'must be a JSON object'
bad 'no JSON' enable '{"esimProfile":' 'no JSON'
bad 'duplicate keys' enable "{\"esimProfile\":{\"iccid\":\"$b\",\"iccid\":\"$b\"}}" 'no JSON'
bad 'NUL in a string' enable '{"esimProfile":{"iccid":"\u0000"}}' 'no JSON'
bad 'invalid UTF-8' enable $'{"esimProfile":{"iccid":"\xff"}}' 'no JSON'
bad 'correlator with a blank' enable "{\"esimProfile\":{\"iccid\":\"$b\"}}" 'x-correlator' -H 'x-correlator: a b'
bad 'correlator with a backslash' enable "{\"esimProfile\":{\"iccid\":\"$b\"}}" 'x-correlator' -H 'x-correlator: a\b'
bad 'correlator of 257' enable "{\"esimProfile\":{\"iccid\":\"$b\"}}" 'x-correlator' -H "x-correlator: $(printf '%0257d' 0)"
unlike 'a malformed correlator does not come back' "$headers" 'x-correlator'
head -c 1100000 /dev/zero | tr '\0' ' ' >"$dir/large"
request POST "$url/main/esim-profile-management/vwip/enable" '' -H 'Content-Type: application/json' --data-binary "@$dir/large"
is 'a body above 1 MiB: 400' "$status" 400
request POST "$url/main/esim-profile-management/vwip/enable" '' -H 'Content-Type: text/plain' -d "{\"esimProfile\":{\"iccid\":\"$b\"}}"
is 'r1.2 other content type: 415' "$status" 415
r12 enable "{\"esimProfile\":{\"iccid\":\"$b\"}}" -H 'Accept: text/html'
is 'r1.2 other Accept: 406' "$status" 406
request POST "$url/main/esim-profile-management/vwip/enable" "{\"esimProfile\":{\"iccid\":\"$b\"}}" -H 'Content-Type: application/json; charset=utf-8'
is 'content type with a charset' "$status" 202
request GET "$url/main/esim-profile-management/vwip/enable"
is 'GET of enable: 405' "$status" 405
request GET "$url/main/esim-profile-management/vwip/nothing"
is 'unknown path: 404' "$status" 404
request GET "$url/main/other"
is 'unknown protocol: 404' "$status" 404
operation 'a%20b'
is 'malformed operation id: 400' "$status" 400

# ---- 2026-02 ----

reset
old download "{\"esim\":{\"eid\":\"$eid\",\"iccid\":\"$a\"},\"activationCode\":\"LPA:1\$rsp.example.com\$T1\",\"activateOnDownload\":true,$sink}" -H 'x-correlator: c\1'
is '2026-02 download is accepted' "$status" 202
like 'status is accepted, with both identifiers' "$body" "\"status\":\"accepted\",\"esim\":{\"eid\":\"$eid\",\"iccid\":\"$a\"}"
like '2026-02 correlator may have a backslash' "$headers" 'x-correlator: c\1'
unlike '2026-02 has no Location' "$headers" Location
old_operation "$(id_of_answer)"
like 'completed, success' "$body" '"status":"completed"'
like 'outcome success' "$body" '"outcome":"success"'
old retrieve-status "{\"esim\":{\"eid\":\"$eid\"}}"
is 'activateOnDownload has enabled it' "$body" "{\"esims\":[{\"eid\":\"$eid\",\"iccid\":\"$a\",\"state\":\"enabled\",\"isFallback\":false}]}"
old delete "{\"esim\":{\"iccid\":\"$a\"},$sink}"
is 'a wrong state is accepted' "$status" 202
old_operation "$(id_of_answer)"
like '... and fails' "$body" '"status":"failed"'
like '... with an error' "$body" '"error":{"status":422,"code":"ESIM_NOT_DISABLED"'
old disable "{\"esim\":{\"iccid\":\"$a\"},$sink,\"unknown\":1}"
is 'undeclared properties pass' "$status" 202
old disable "{\"esim\":{\"iccid\":\"$a\"},$sink}"
old_operation "$(id_of_answer)"
like 'disabling what is disabled: ESIM_NOT_ENABLED' "$body" ESIM_NOT_ENABLED
old enable "{\"esim\":{\"iccid\":\"8901260123456789999\"},$sink}"
is 'unknown ICCID: 422' "$status" 422
like 'SERVICE_NOT_APPLICABLE' "$body" SERVICE_NOT_APPLICABLE
old retrieve-status '{"esim":{"iccid":"8901260123456789999"}}'
is 'retrieve-status of an unknown ICCID: 404' "$status" 404
old retrieve-status "{\"esim\":{\"iccid\":\"$a\"}}" -H 'x-correlator: a b'
is 'retrieve-status does not declare x-correlator' "$status" 200
r12 retrieve-status "{\"esimProfile\":{\"iccid\":\"$a\"}}"
like 'both dialects see the same eUICC' "$body" DISABLED
old download "{\"esim\":{\"eid\":\"$eid\",\"iccid\":\"$b\"},\"activationCode\":\"1\$rsp.example.com\$T1\",$sink}"
old_operation "$(id_of_answer)"
like 'the code belongs to another ICCID' "$body" IDENTIFIER_MISMATCH

old_bad()
{
	old "$2" "$3" "${@:5}"
	is "2026-02 $1: 400" "$status" 400
	like "2026-02 $1: message" "$body" "$4"
}
old_bad 'no sink' enable "{\"esim\":{\"iccid\":\"$a\"}}" 'sink is required'
old_bad 'sink without a scheme' enable "{\"esim\":{\"iccid\":\"$a\"},\"sink\":\"sink.example.com\"}" 'sink must be a URI'
old_bad 'sink with a blank' enable "{\"esim\":{\"iccid\":\"$a\"},\"sink\":\"https://a b\"}" 'sink must be a URI'
old_bad 'download without ICCID' download "{\"esim\":{\"eid\":\"$eid\"},\"activationCode\":\"1\$a\$b\",$sink}" 'esim.iccid is required'
old_bad 'download without EID' download "{\"esim\":{\"iccid\":\"$a\"},\"activationCode\":\"1\$a\$b\",$sink}" 'esim.eid is required'
old_bad 'activateOnDownload as text' download "{\"esim\":{\"eid\":\"$eid\",\"iccid\":\"$a\"},\"activationCode\":\"1\$a\$b\",\"activateOnDownload\":\"yes\",$sink}" 'must be a boolean'
old_bad 'sinkCredential without type' enable "{\"esim\":{\"iccid\":\"$a\"},$sink,\"sinkCredential\":{}}" 'credentialType is required'
old_bad 'unknown credentialType' enable "{\"esim\":{\"iccid\":\"$a\"},$sink,\"sinkCredential\":{\"credentialType\":\"PLAIN\"}}" 'must be ACCESSTOKEN'
old_bad 'accessTokenExpireUtc' enable "{\"esim\":{\"iccid\":\"$a\"},$sink,\"sinkCredential\":{\"credentialType\":\"ACCESSTOKEN\",\"accessTokenExpireUtc\":\"tomorrow\"}}" 'date-time'
old_bad 'accessTokenType' enable "{\"esim\":{\"iccid\":\"$a\"},$sink,\"sinkCredential\":{\"credentialType\":\"ACCESSTOKEN\",\"accessTokenType\":\"mac\"}}" 'must be bearer'
old_bad 'correlationId as number' enable "{\"esim\":{\"iccid\":\"$a\"},$sink,\"correlationId\":1}" 'must be a string'
old_bad 'x-correlator' enable "{\"esim\":{\"iccid\":\"$a\"},$sink}" 'x-correlator' -H 'x-correlator: a b'
old_operation not-a-uuid
is '2026-02 operation id that is no UUID: 400' "$status" 400
request POST "$url/main/esim/vwip/esim/enable" '' -H 'Content-Type: text/plain' -d '{}'
is '2026-02 other content type: 400' "$status" 400

# ---- stock, memory, redownload ----

reset
control stock "{\"stock\":[{\"code\":\"LPA:1\$rsp.example.com\$TOKEN\",\"iccid\":\"$b\"},{\"eid\":\"$eid2\",\"iccid\":\"$a\"}]}"
r12 download "{\"esimProfile\":{\"eid\":\"$eid\"},\"activationCode\":\"1\$rsp.example.com\$TOKEN\"}"
operation "$(id_of_answer)"
like 'the stock gives the ICCID of a code' "$body" "\"assignedIccid\":\"$b\""
r12 download "{\"esimProfile\":{\"eid\":\"$eid2\"},\"activationCode\":\"1\$rsp.example.com\$\"}"
operation "$(id_of_answer)"
like 'an empty matching ID: what waits for the EID' "$body" "\"assignedIccid\":\"$a\""
r12 download "{\"esimProfile\":{\"eid\":\"$eid2\"},\"activationCode\":\"1\$rsp.example.com\$UNKNOWN\"}"
operation "$(id_of_answer)"
derived=$(sed -n 's/.*"assignedIccid":"\([0-9]*\)".*/\1/p' <<<"$body")
is 'an unknown code has an ICCID of 19 digits' "${#derived}" 19
reset
r12 download "{\"esimProfile\":{\"eid\":\"$eid\"},\"activationCode\":\"1\$rsp.example.com\$UNKNOWN\"}"
operation "$(id_of_answer)"
like '... the same one each time' "$body" "\"assignedIccid\":\"$derived\""
control euicc "{\"eid\":\"$eid\",\"memory\":1}"
r12 download "{\"esimProfile\":{\"eid\":\"$eid\"},\"activationCode\":\"1\$rsp.example.com\$MORE\"}"
operation "$(id_of_answer)"
like 'memory is limited' "$body" 'Not enough memory'
r12 delete "{\"esimProfile\":{\"iccid\":\"$derived\"}}"
r12 download "{\"esimProfile\":{\"eid\":\"$eid\"},\"activationCode\":\"1\$rsp.example.com\$UNKNOWN\"}"
operation "$(id_of_answer)"
like 'the same eUICC may download again' "$body" SUCCESS
r12 delete "{\"esimProfile\":{\"iccid\":\"$derived\"}}"
control config '{"server":"main","redownload":"never"}'
r12 download "{\"esimProfile\":{\"eid\":\"$eid\"},\"activationCode\":\"1\$rsp.example.com\$UNKNOWN\"}"
operation "$(id_of_answer)"
like '... not with redownload never' "$body" FAILED
is 'that is no double effect' "$(ledger double_effects)" 0

# ---- devices: delay, offline, order, events ----

reset
install
control euicc "{\"eid\":\"$eid\",\"delay_ms\":3000}"
r12 enable "{\"esimProfile\":{\"iccid\":\"$a\"}}"
first=$(id_of_answer)
operation "$first"
like 'a slow device: ACCEPTED' "$body" '"status":"ACCEPTED"'
unlike '... without a result' "$body" result
sleep 3.2
operation "$first"
like '... then COMPLETED' "$body" COMPLETED
control euicc "{\"eid\":\"$eid\",\"delay_ms\":0,\"online\":false}"
r12 enable "{\"esimProfile\":{\"iccid\":\"$b\"}}"
first=$(id_of_answer)
r12 disable "{\"esimProfile\":{\"iccid\":\"$a\"}}"
second=$(id_of_answer)
operation "$first"
like 'an offline device: ACCEPTED' "$body" '"status":"ACCEPTED"'
control euicc "{\"eid\":\"$eid\",\"online\":true}"
operation "$first"
like 'online again: COMPLETED' "$body" SUCCESS
operation "$second"
like 'the queue keeps its order' "$body" FAILED
control euicc "{\"eid\":\"$eid\",\"offline_ms\":200}"
r12 enable "{\"esimProfile\":{\"iccid\":\"$a\"}}"
first=$(id_of_answer)
sleep 0.4
operation "$first"
like 'offline for a time' "$body" SUCCESS
control config '{"server":"main","ota_timeout_ms":100}'
control euicc "{\"eid\":\"$eid\",\"online\":false}"
r12 enable "{\"esimProfile\":{\"iccid\":\"$b\"}}"
first=$(id_of_answer)
sleep 0.3
operation "$first"
like 'the provider gives up on the device' "$body" 'did not answer'
control config '{"server":"main","ota_timeout_ms":0,"conflict_when_busy":true}'
r12 enable "{\"esimProfile\":{\"iccid\":\"$b\"}}"
r12 disable "{\"esimProfile\":{\"iccid\":\"$a\"}}"
is 'conflict_when_busy: 409' "$status" 409
like 'ABORTED' "$body" ABORTED
control config '{"server":"main","conflict_when_busy":false,"opaque_ids":true}'
control euicc "{\"eid\":\"$eid\",\"online\":true}"
r12 disable "{\"esimProfile\":{\"iccid\":\"$b\"}}"
like 'operation ids need not be UUIDs' "$body" '"operationId":"op:'
operation "$(id_of_answer)"
is '... and are found' "$status" 200
r12 set-fallback "{\"esimProfile\":{\"iccid\":\"$a\"}}"
control device-event "{\"eid\":\"$eid\",\"what\":\"local_enable\",\"iccid\":\"$b\"}"
control device-event "{\"eid\":\"$eid\",\"what\":\"fallback\"}"
request GET "$url/control/euicc?iccid=$b"
like 'the device falls back' "$body" "\"iccid\":\"$a\",\"state\":\"ENABLED\",\"fallback\":true"
control device-event "{\"eid\":\"$eid\",\"what\":\"local_disable\"}"
control device-event "{\"eid\":\"$eid\",\"what\":\"delete\",\"iccid\":\"$b\"}"
control device-event "{\"eid\":\"$eid\",\"what\":\"reset\"}"
request GET "$url/control/euicc?eid=$eid"
like 'reset empties the eUICC' "$body" '"profiles":[]'
is 'device effects are counted apart' "$(ledger device_effects)" 6

# ---- repeats and double effects ----

reset
install
r12 enable "{\"esimProfile\":{\"iccid\":\"$a\"}}"
r12 disable "{\"esimProfile\":{\"iccid\":\"$a\"}}"
r12 enable "{\"esimProfile\":{\"iccid\":\"$a\"}}"
r12 enable "{\"esimProfile\":{\"iccid\":\"$b\"}}"
r12 enable "{\"esimProfile\":{\"iccid\":\"$a\"}}"
is 'enable after its opposite is no repeat' "$(ledger repeats)" 0
r12 retrieve-status "{\"esimProfile\":{\"eid\":\"$eid\"}}"
r12 enable "{\"esimProfile\":{\"iccid\":\"$a\"}}"
is 'a repeat' "$(ledger repeats)" 1
is '... after an ask' "$(ledger unasked_repeats)" 0
r12 enable "{\"esimProfile\":{\"iccid\":\"$a\"}}"
is 'each repeat needs an ask of its own' "$(ledger unasked_repeats)" 1
request GET "$url/control/ledger"
like 'the unasked ones are listed' "$body" "\"kind\":\"enable\",\"id\":\"$a\""
fault '{"path":"retrieve-status","fault":"status","status":503}'
r12 retrieve-status "{\"esimProfile\":{\"eid\":\"$eid\"}}"
no_fault
r12 enable "{\"esimProfile\":{\"iccid\":\"$a\"}}"
is 'an ask without an answer does not count' "$(ledger unasked_repeats)" 2
fault '{"path":"/enable","fault":"reset_before_effect"}'
r12 enable "{\"esimProfile\":{\"iccid\":\"$b\"}}"
no_fault
before=$(ledger repeats)
r12 enable "{\"esimProfile\":{\"iccid\":\"$b\"}}"
is 'what never arrived is not repeated' "$(ledger repeats)" "$before"
is 'nothing happened twice' "$(ledger double_effects)" 0
control config '{"server":"main","idempotent":true}'
r12 enable "{\"esimProfile\":{\"iccid\":\"$b\"}}"
is 'idempotent: accepted again' "$status" 202
is '... a double effect' "$(ledger double_effects)" 1
reset
install
control euicc "{\"eid\":\"$eid\",\"online\":false}"
r12 enable "{\"esimProfile\":{\"iccid\":\"$a\"}}"
r12 retrieve-status "{\"esimProfile\":{\"iccid\":\"$a\"}}"
r12 enable "{\"esimProfile\":{\"iccid\":\"$a\"}}"
second=$(id_of_answer)
control euicc "{\"eid\":\"$eid\",\"online\":true}"
operation "$second"
like 'the device refuses the second' "$body" FAILED
is 'already so' "$(ledger already_so)" 1
is 'one effect' "$(ledger effects)" 1
r12 download "{\"esimProfile\":{\"eid\":\"$eid2\"},\"activationCode\":\"1\$rsp.example.com\$\"}"
r12 download "{\"esimProfile\":{\"eid\":\"$eid2\"},\"activationCode\":\"1\$rsp.example.com\$\"}"
is 'a repeated download without matching ID brings a second profile' "$(ledger double_effects)" 1

# ---- faults ----

reset
install
on='{"esimProfile":{"iccid":"'$a'"}}'
state()	# of the first profile, after which it is disabled again
{
	request GET "$url/control/euicc?eid=$eid"
	sed -n 's/.*"iccid":"'$a'","state":"\([A-Z]*\)".*/\1/p' <<<"$body"
}
again() { no_fault; install; }

fault '{"path":"enable","count":1,"fault":"status","status":429,"retry_after":7}'
r12 enable "$on"
is 'status 429' "$status" 429
like 'Retry-After' "$headers" 'Retry-After: 7'
like 'TOO_MANY_REQUESTS' "$body" TOO_MANY_REQUESTS
is '... without effect' "$(state)" DISABLED
r12 enable "$on"
is 'count: only once' "$status" 202
again
fault '{"fault":"status","status":503,"retry_after":"Wed, 21 Oct 2026 07:28:00 GMT","code":"MINE","message":"as told","headers":{"X-Test":"1","Content-Type":"text/plain"}}'
r12 enable "$on"
is 'status 503' "$status" 503
like 'Retry-After as a date' "$headers" 'Retry-After: Wed, 21 Oct 2026'
like 'code and message' "$body" '"code":"MINE","message":"as told"'
like 'headers' "$headers" 'X-Test: 1'
like 'headers replace' "$headers" 'Content-Type: text/plain'
fault '{"fault":"status","status":504,"effect":true}'
r12 enable "$on"
is 'status 504 after the effect' "$status" 504
is '... the effect is there' "$(state)" ENABLED
again
fault '{"fault":"latency","ms":300}'
began=$(date +%s%N)
r12 enable "$on"
is 'latency' $(((($(date +%s%N) - began) / 1000000) >= 300)) 1
is '... and then the answer' "$status" 202
again
fault '{"fault":"latency","ms":400,"before":true}'
limit=0.1
r12 enable "$on"
limit=10
is 'latency before the effect: the client gives up' "$code" 28
is '... the effect is not there yet' "$(state)" DISABLED
sleep 0.5
is '... but comes' "$(state)" ENABLED
again
fault '{"fault":"timeout_after_effect"}'
limit=0.3
r12 enable "$on"
limit=10
is 'timeout_after_effect' "$code" 28
is '... with effect' "$(state)" ENABLED
again
fault '{"fault":"timeout_before_effect"}'
limit=0.3
r12 enable "$on"
limit=10
is 'timeout_before_effect' "$code" 28
is '... without effect' "$(state)" DISABLED
sleep 0.1
request GET "$url/control/stats"
like 'the hanging ones are gone with their clients' "$body" '"in_flight":0'
fault '{"fault":"timeout_before_effect","ms":200}'
r12 enable "$on"
is 'a time-out may end in a reset' "$code" 56
fault '{"fault":"reset_after_effect"}'
r12 enable "$on"
is 'reset_after_effect' "$code" 56
like '... is a reset' "$(cat "$dir/curl")" 'reset by peer'
is '... with effect' "$(state)" ENABLED
again
fault '{"fault":"reset_before_effect"}'
r12 enable "$on"
is 'reset_before_effect' "$code" 56
is '... without effect' "$(state)" DISABLED

body_fault()	# body_fault NAME MORE WANTED
{
	again
	fault "{\"fault\":\"$1\"$2}"
	r12 enable "$on"
	is "$1: 202" "$status" 202
	like "$1: the body" "$body" "$3"
	is "$1: the effect is there" "$(state)" ENABLED
}
body_fault malformed_json '' 'status: <ACCEPTED>'
body_fault truncated_json '' '{"operationId":"'
body_fault deep_json ',"depth":50' '{"deep":[[[[['
body_fault wrong_content_type ',"content_type":"text/html"' operationId
body_fault wrong_types '' '"operationId":4711'
body_fault duplicate_keys '' '"status":"duplicate"'
body_fault empty_body '' ''
body_fault wrong_iccid '' '"iccid":"89012601234'
again
fault '{"fault":"wrong_content_type"}'
r12 enable "$on"
like 'wrong_content_type: the header' "$headers" 'Content-Type: text/html'
again
fault '{"fault":"wrong_iccid"}'
r12 enable "$on"
unlike 'wrong_iccid: another ICCID' "$body" "$a"
again
fault '{"fault":"invalid_utf8"}'
request POST "$url/main/esim-profile-management/vwip/enable" "$on"
is 'invalid_utf8' "$(iconv -f UTF-8 -t UTF-8 "$dir/body" >/dev/null 2>&1; echo $?)" 1
again
fault '{"fault":"nul_bytes"}'
request POST "$url/main/esim-profile-management/vwip/enable" "$on"
is 'nul_bytes' "$(tr -dc '\0' <"$dir/body" | wc -c)" 2
again
fault '{"fault":"oversized_json","bytes":3000000}'
request POST "$url/main/esim-profile-management/vwip/enable" "$on"
is 'oversized_json: its size' $(($(wc -c <"$dir/body") > 3000000)) 1
like 'oversized_json is JSON with the answer at its end' "$(tail -c 200 "$dir/body")" '"status":"ACCEPTED"'
again
fault '{"fault":"truncated_body"}'
r12 enable "$on"
is 'truncated_body: a part of what was announced' "$code" 18
again
fault '{"fault":"slow_drip","rate":100}'
limit=0.5
r12 enable "$on"
limit=10
is 'slow_drip' "$code" 28
again
fault '{"fault":"slow_drip","rate":1000}'
r12 enable "$on"
like 'slow_drip: the whole answer in the end' "$body" '"iccid"'
again
fault '{"fault":"endless_body"}'
is 'endless_body' "$(curl -sS -H 'Content-Type: application/json' -d "$on" "$url/main/esim-profile-management/vwip/enable" 2>/dev/null | head -c 5000000 | wc -c)" 5000000
again
fault '{"fault":"redirect","location":"http://127.0.0.1:1/"}'
r12 enable "$on"
is 'redirect' "$status" 307
like 'redirect: where to' "$headers" 'Location: http://127.0.0.1:1/'
fault '{"fault":"token_expired","count":1}'
r12 enable "$on"
is 'token_expired' "$status" 401
like 'UNAUTHENTICATED' "$body" UNAUTHENTICATED
like 'WWW-Authenticate' "$headers" 'WWW-Authenticate: Bearer'
no_fault
r12 enable "$on"
first=$(id_of_answer)
fault '{"fault":"forget_operation"}'
operation "$first"
is 'forget_operation' "$status" 404
again
fault '{"fault":"device_fail","reason":"No radio."}'
r12 enable "$on"
operation "$(id_of_answer)"
like 'device_fail' "$body" '"failureReason":"No radio."'
fault '{"path":"download","fault":"memory_full"}'
r12 download "{\"esimProfile\":{\"eid\":\"$eid\"},\"activationCode\":\"1\$rsp.example.com\$Q\"}"
operation "$(id_of_answer)"
like 'memory_full' "$body" 'Not enough memory'
again
fault '{"fault":"device_lost"}'
r12 enable "$on"
operation "$(id_of_answer)"
like 'device_lost: ACCEPTED for ever' "$body" ACCEPTED
is '... without effect' "$(state)" DISABLED
fault '{"fault":"device_unreported"}'
r12 enable "$on"
operation "$(id_of_answer)"
like 'device_unreported: ACCEPTED for ever' "$body" ACCEPTED
is '... with effect' "$(state)" ENABLED
again
fault '{"fault":"device_delay","ms":200}'
r12 enable "$on"
first=$(id_of_answer)
operation "$first"
like 'device_delay' "$body" ACCEPTED

reset
install
fault "[{\"server\":\"other\",\"fault\":\"status\",\"status\":500},{\"method\":\"GET\",\"fault\":\"status\",\"status\":501},{\"iccid\":\"$b\",\"fault\":\"status\",\"status\":502},{\"eid\":\"$eid2\",\"fault\":\"status\",\"status\":503}]"
r12 enable "$on"
is 'rules miss other requests' "$status" 202
operation "$(id_of_answer)"
is 'rule by method' "$status" 501
r12 enable "{\"esimProfile\":{\"iccid\":\"$b\"}}"
is 'rule by ICCID' "$status" 502
r12 retrieve-status "{\"esimProfile\":{\"eid\":\"$eid2\"}}"
is 'rule by EID' "$status" 503
request POST "$url/other/esim-profile-management/vwip/enable" "$on"
is 'rule by server' "$status" 500
fault '{"path":"retrieve-status","after":2,"every":2,"fault":"status","status":500}'
seen=
for _ in 1 2 3 4 5 6; do
	r12 retrieve-status "{\"esimProfile\":{\"eid\":\"$eid\"}}"
	seen="$seen $status"
done
is 'after and every' "$seen" ' 200 200 200 500 200 500'
chances()
{
	reset
	fault '{"probability":0.5,"fault":"status","status":500}'
	seen=
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
		r12 retrieve-status "{\"esimProfile\":{\"eid\":\"$eid\"}}"
		seen="$seen $status"
	done
}
chances
kept=$seen
chances
is 'probability is repeatable' "$seen" "$kept"
like 'probability: some fail' "$seen" 500
like 'probability: some pass' "$seen" 200
request POST "$url/control/fault" '{"fault":"nonsense"}'
is 'an unknown fault is refused' "$status" 400
request POST "$url/control/fault" '{"fault":"status","stauts":1}'
is 'an unknown member of a rule is refused' "$status" 400

# ---- limits and statistics ----

reset
control config '{"servers":{"main":{"rate_limit":3}}}'
seen=
for _ in 1 2 3 4 5; do
	r12 retrieve-status "{\"esimProfile\":{\"eid\":\"$eid\"}}"
	seen="$seen $status"
done
is 'rate_limit' "$seen" ' 200 200 200 429 429'
like 'Retry-After' "$headers" 'Retry-After: 1'
reset
control config '{"servers":{"main":{"latency_ms":300,"max_in_flight":2}}}'
for n in 1 2 3; do
	curl -sS -o /dev/null -w '%{http_code}\n' -H 'Content-Type: application/json' \
		-d "{\"esimProfile\":{\"eid\":\"$eid\"}}" "$url/main/esim-profile-management/vwip/retrieve-status" >"$dir/flight$n" &
	flights[$n]=$!
done
wait "${flights[@]}"
is 'max_in_flight' "$(sort "$dir"/flight? | tr '\n' ' ')" '200 200 429 '
request GET "$url/control/stats"
like 'the most in flight' "$body" '"max_in_flight":3'
like 'answers by path and status' "$body" '"POST /retrieve-status 200":2'
like 'requests in a second' "$body" '"max_per_second":3'
reset
r12 enable "$on" -H 'X-Look: here'
request GET "$url/control/requests?n=1"
like 'the last requests: headers' "$body" '"X-Look":"here"'
like 'the last requests: body' "$body" '\"esimProfile\"'
like 'the last requests: status' "$body" '"status":404'
control populate '{"count":3,"first":7,"profiles":2,"state":"ENABLED"}'
request GET "$url/control/profiles?limit=2"
like 'populate: an EID with its check digits' "$body" '"eid":"89049032000000000000000000000745"'
like 'profiles are paged' "$body" '"next":2'

# ---- authorization ----

reset
control config '{"server":"main","auth":{"bearer":"secret"}}'
install
r12 enable "$on"
is 'no token: 401' "$status" 401
like 'UNAUTHENTICATED' "$body" '"code":"UNAUTHENTICATED"'
r12 enable "$on" -H 'Authorization: Bearer wrong'
is 'a wrong token: 401' "$status" 401
r12 enable "$on" -H 'Authorization: Bearer secret'
is 'the token: 202' "$status" 202
request POST "$url/other/esim-profile-management/vwip/retrieve-status" "{\"esimProfile\":{\"eid\":\"$eid\"}}"
is 'another server is open' "$status" 200
reset
install
scopes=iot-device-management:esim-profiles
control config "{\"server\":\"main\",\"auth\":{\"client_id\":\"me\",\"client_secret\":\"s:e&c r%t\",\"expires_in\":1,\"check_scopes\":true,\"scopes\":\"$scopes:enable $scopes:retrieve-operation\"}}"
token() { request POST "$url/main/oauth2/token" '' "$@"; }
token -d grant_type=client_credentials -u 'me:s%3Ae%26c+r%25t'
is 'client_secret_basic' "$status" 200
like 'expires_in' "$body" '"token_type":"Bearer","expires_in":1'
like 'no-store' "$headers" 'Cache-Control: no-store'
bearer=$(sed -n 's/.*"access_token":"\([^"]*\)".*/\1/p' <<<"$body")
r12 enable "$on" -H "Authorization: Bearer $bearer"
is 'the token serves' "$status" 202
r12 disable "$on" -H "Authorization: Bearer $bearer"
is 'a scope that is missing: 403' "$status" 403
like 'PERMISSION_DENIED' "$body" PERMISSION_DENIED
sleep 1.1
r12 enable "$on" -H "Authorization: Bearer $bearer"
is 'an expired token: 401' "$status" 401
control config '{"server":"main","auth":{"expires_in":3600}}'
token -d grant_type=client_credentials -d client_id=me --data-urlencode 'client_secret=s:e&c r%t'
is 'client_secret_post' "$status" 200
bearer=$(sed -n 's/.*"access_token":"\([^"]*\)".*/\1/p' <<<"$body")
control config '{"server":"main","expire_tokens":true}'
r12 enable "$on" -H "Authorization: Bearer $bearer"
is 'all tokens expired' "$status" 401
token -d grant_type=client_credentials -u me:wrong
is 'a wrong secret: 401' "$status" 401
like 'invalid_client' "$body" invalid_client
token -d grant_type=password -u 'me:s%3Ae%26c+r%25t'
like 'unsupported_grant_type' "$body" unsupported_grant_type
token -d "grant_type=client_credentials&scope=$scopes:delete" -u 'me:s%3Ae%26c+r%25t'
like 'invalid_scope' "$body" invalid_scope
token -d 'grant_type=client_credentials&grant_type=x' -u 'me:s%3Ae%26c+r%25t'
like 'repeated parameter' "$body" invalid_request
request GET "$url/control/stats"
like 'token requests are counted' "$body" '"token_requests":6'
like 'tokens issued' "$body" '"tokens_issued":2'
control config '{"server":"main","auth":{"methods":["client_secret_post"]}}'
token -d grant_type=client_credentials -u 'me:s%3Ae%26c+r%25t'
is 'a method that is not allowed' "$status" 401
request GET "$url/main/.well-known/openid-configuration"
like 'discovery' "$body" "\"token_endpoint\":\"$url/main/oauth2/token\""
fault '{"path":"oauth2/token","fault":"status","status":503}'
token -d grant_type=client_credentials
is 'faults meet the token endpoint' "$status" 503
no_fault

if command -v openssl >/dev/null; then
	b64() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
	openssl genrsa -out "$dir/jwt.key" 2048 2>/dev/null
	openssl rsa -in "$dir/jwt.key" -pubout -out "$dir/jwt.pub" 2>/dev/null
	pem=$(awk '{printf "%s\\n", $0}' "$dir/jwt.pub")
	control config "{\"server\":\"main\",\"auth\":{\"public_key\":\"$pem\"}}"
	jwt()	# jwt EXPIRY-IN-SECONDS
	{
		local part now
		now=$(date +%s)
		part=$(printf '{"alg":"RS256","typ":"JWT"}' | b64).$(printf '{"iss":"me","sub":"me","aud":"%s/main/oauth2/token","jti":"1","exp":%d}' "$url" $((now + $1)) | b64)
		echo "$part.$(printf '%s' "$part" | openssl dgst -sha256 -sign "$dir/jwt.key" | b64)"
	}
	type='client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer'
	token -d grant_type=client_credentials --data-urlencode "$type" -d "client_assertion=$(jwt 200)"
	is 'private_key_jwt' "$status" 200
	token -d grant_type=client_credentials --data-urlencode "$type" -d "client_assertion=$(jwt 900)"
	is 'an assertion of more than 300 s: 401' "$status" 401
	good=$(jwt 200)
	token -d grant_type=client_credentials --data-urlencode "$type" -d "client_assertion=${good%????????}AAAAAAAA"
	is 'a forged signature: 401' "$status" 401

	# ---- TLS ----

	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout "$dir/ca.key" -out "$dir/ca.pem" 2>/dev/null
	for name in server client; do
		openssl req -newkey rsa:2048 -nodes -subj /CN=$name -keyout "$dir/$name.key" -out "$dir/$name.csr" 2>/dev/null
		openssl x509 -req -in "$dir/$name.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -days 2 \
			-extfile <(echo 'subjectAltName=IP:127.0.0.1') -out "$dir/$name.pem" 2>/dev/null
	done
	plain=$url
	start tls --tls-cert="$dir/server.pem" --tls-key="$dir/server.key" --client-ca="$dir/ca.pem"
	like 'HTTPS' "$url" 'https://'
	ask="{\"esimProfile\":{\"eid\":\"$eid\"}}"
	r12 retrieve-status "$ask" --cacert "$dir/ca.pem"
	is 'a request over TLS' "$status" 200
	request POST "$url/control/config" '{"server":"main","client_cert":true}' --cacert "$dir/ca.pem"
	r12 retrieve-status "$ask" --cacert "$dir/ca.pem"
	is 'no client certificate: 401' "$status" 401
	r12 retrieve-status "$ask" --cacert "$dir/ca.pem" --cert "$dir/client.pem" --key "$dir/client.key"
	is 'a client certificate' "$status" 200
	request POST "$url/control/fault" '{"fault":"reset_after_effect"}' --cacert "$dir/ca.pem"
	r12 retrieve-status "$ask" --cacert "$dir/ca.pem" --cert "$dir/client.pem" --key "$dir/client.key"
	is 'reset over TLS' "$code" 56
	url=$plain
fi

# ---- configuration file, exit ----

cat >"$dir/config.json" <<CONFIG
{"servers": {"main": {"auth": {"bearer": "t"}}},
 "euiccs": [{"eid": "$eid", "profiles": [{"iccid": "$a", "state": "ENABLED", "fallback": true}]}],
 "stock": [{"code": "1\$h\$T", "iccid": "$b"}],
 "faults": [{"path": "disable", "fault": "status", "status": 500}]}
CONFIG
plain=$url
start configured --config="$dir/config.json" --accept-unknown-eid=no
r12 retrieve-status "{\"esimProfile\":{\"iccid\":\"$a\"}}" -H 'Authorization: Bearer t'
like 'configured eUICC' "$body" '"state":"ENABLED","isFallback":true'
r12 disable "$on" -H 'Authorization: Bearer t'
is 'configured fault' "$status" 500
r12 retrieve-status "{\"esimProfile\":{\"eid\":\"$eid2\"}}" -H 'Authorization: Bearer t'
is 'an unknown EID: 404' "$status" 404
r12 download "{\"esimProfile\":{\"eid\":\"$eid2\"},\"activationCode\":\"1\$h\$T\"}" -H 'Authorization: Bearer t'
is 'download to an unknown EID: 404' "$status" 404
start lazy --accept-unknown-iccid
r12 enable "$on"
is 'accept-unknown-iccid' "$status" 202
bash -c '"$0" --port=0 --quiet --parent-watch & sleep 0.5' "$rspsim" >"$dir/watched"
sleep 0.3
watched=$(sed -n 's/^rspsim listening on //p' "$dir/watched")
like 'parent-watch: it ran' "$watched" 'http://'
request GET "$watched/control/stats"
is 'parent-watch: it ended with its parent' "$code" 7
url=$plain
reset
install
fault '{"fault":"merge_json","merge":{"status":"DONE","esimProfile":null,"x":{"y":[1]}},"headers":{"Location":"../"},"count":1}'
r12 enable "$on"
is 'merge_json: the status stays' "$status" 202
like '... members are replaced' "$body" '"status":"DONE"'
like '... and added' "$body" '"x":{"y":[1]}'
unlike '... and removed' "$body" esimProfile
like '... with headers' "$headers" 'Location: ../'
fault '{"fault":"body","body":"<html>","status":503,"count":1}'
r12 disable "$on"
is 'body: its status' "$status" 503
is '... and text' "$body" '<html>'
request GET "$url/control/euicc?eid=$eid"
like '... after the effect' "$body" "\"iccid\":\"$a\",\"state\":\"DISABLED\""
fault '{"fault":"informational","bytes":50,"count":1}'
r12 enable "$on"
is 'informational: the answer comes in the end' "$status" 202
is '... after them' "$(grep -c '^HTTP/1.1 103' <<<"$headers")" 50
no_fault

# ---- events of 2026-02 ----

# told N: waits until so many events came since the last time, the body has them
told()
{
	for _ in $(seq 100); do
		request GET "$url/control/requests?n=100"
		[ "$(grep -o '"path":"/main/sink"' <<<"$body" | wc -l)" -ge "$1" ] && break
		sleep 0.1
	done
}
on_old="{\"esim\":{\"iccid\":\"$a\"},\"sink\":\"$url/main/sink?x=1\",\"sinkCredential\":{\"credentialType\":\"ACCESSTOKEN\",\"accessToken\":\"t0k\"}}"
control config '{"server":"main","camara":{"events":true,"copies":2}}'
old disable "$on_old"
event_id=$(id_of_answer)
told 2
is 'an event to the sink, twice' "$(grep -o '"path":"/main/sink"' <<<"$body" | wc -l)" 2
like '... of the type' "$body" 'com.camara.esim-management.vwip.operation-completed'
like '... of CloudEvents' "$body" 'application/cloudevents+json'
like '... with the credential' "$body" 'Bearer t0k'
like '... about the operation' "$body" "$event_id"
control config '{"server":"main","camara":{"copies":1,"hold":2,"names":"diagram"}}'
request DELETE "$url/control/requests"
old enable "$on_old"
first=$(id_of_answer)
request GET "$url/control/requests?n=100"
unlike 'hold: not yet' "$body" esim-enabled
old disable "$on_old"
told 2
like 'the names of the diagram' "$body" 'vwip.esim-enabled'
is 'newest first' "$(grep -o '"operationId\\":\\"[^\\]*' <<<"$body" | tail -n 1 | grep -o '[^"]*$')" "$first"
echo '{"nonsense": 1}' >"$dir/config.json"
"$rspsim" --config="$dir/config.json" >/dev/null 2>"$dir/err"
is 'a wrong configuration is refused' "$?" 1
like '... and says why' "$(cat "$dir/err")" nonsense
url=$plain
reset
install
r12 enable "$on"
fault '{"fault":"timeout_after_effect"}'
curl -sS -o /dev/null --max-time 20 -H 'Content-Type: application/json' -d "$on" "$url/main/esim-profile-management/vwip/retrieve-status" 2>/dev/null &
sleep 0.2
kill -TERM "$main_pid"
wait "$main_pid"
is 'ends cleanly, with a request hanging' "$?" 0
like 'the ledger is written' "$(cat "$dir/ledger.json")" '"effects":1'
like 'with its entries' "$(cat "$dir/ledger.json")" '"what":"enabled"'

finish
