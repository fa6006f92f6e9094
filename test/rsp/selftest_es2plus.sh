#!/usr/bin/env bash
#
# selftest_es2plus.sh
#	Tests the simulator's SM-DP+ by itself, with curl.  Prints TAP.
#
. "$(dirname "$0")/lib.sh"
limit=3
calls=0

# es2plus FUNCTION MEMBERS [curl option]...
es2plus()
{
	calls=$((calls + 1))
	request POST "$url/main/gsma/rsp2/es2plus/$1" \
		"{\"header\":{\"functionRequesterIdentifier\":\"1.2.3\",\"functionCallIdentifier\":\"call-$calls\"}${2:+,$2}}" \
		-H 'X-Admin-Protocol: gsma/rsp/v2.5.0' "${@:3}"
}
success() { is "$1" "$(grep -o '"status":"[^"]*"' <<<"$body")" '"status":"Executed-Success"'; }
failure()	# failure NAME SUBJECT REASON
{
	like "$1" "$body" "\"status\":\"Failed\",\"statusCodeData\":{\"subjectCode\":\"$2\",\"reasonCode\":\"$3\""
}
setting() { control config "{\"server\":\"main\",\"es2plus\":$1}"; }
profile() { request GET "$url/control/es2plus/profiles?iccid=$1"; }

# notified N: waits until the simulator has told itself N times
notified()
{
	for _ in $(seq 40); do
		request GET "$url/control/requests?n=100"
		[ "$(grep -o '/hook/progress' <<<"$body" | wc -l)" -ge "$1" ] && return
		sleep 0.05
	done
}

a=8944478600003770170
b=89457300000021819183

start main
like 'prints its address' "$url" 'http://127.0.0.1:'

# ---- a life of a profile ----

es2plus downloadOrder "\"eid\":\"$eid\",\"profileType\":\"A\""
is 'downloadOrder is HTTP 200' "$status" 200
success 'and is executed'
like 'X-Admin-Protocol' "$headers" 'X-Admin-Protocol: gsma/rsp/v2.'
like 'the content type has a charset' "$headers" 'Content-Type: application/json;charset=UTF-8'
iccid=$(member iccid)
is 'an ICCID of 19 digits is filled up' "${#iccid}${iccid: -1}" 20F
plain=${iccid%F}
profile "$plain"
like 'it is Linked' "$body" "\"state\":\"Linked\",\"eid\":\"$eid\""
es2plus confirmOrder "\"iccid\":\"$iccid\",\"eid\":\"$eid2\",\"matchingId\":\"\",\"releaseFlag\":true"
failure 'another EID' 8.1.1 3.10
es2plus confirmOrder "\"iccid\":\"$iccid\",\"eid\":\"$eid\",\"matchingId\":\"\",\"releaseFlag\":false"
success 'confirmOrder'
like 'gives the empty matching ID back' "$body" '"matchingId":""'
like 'and the address' "$body" '"smdpAddress":"smdp.example.com"'
profile "$plain"
like 'it is Confirmed' "$body" '"state":"Confirmed"'
es2plus releaseProfile "\"iccid\":\"$plain\""
success 'releaseProfile, without padding'
es2plus releaseProfile "\"iccid\":\"$plain\""
failure 'twice' 8.2.1 3.5
request POST "$url/control/es2plus/download" "{\"eid\":\"$eid\"}"
is 'the device fetches it' "$body" "{\"iccid\":\"$plain\",\"outcome\":\"installed\",\"state\":\"Installed\"}"
request GET "$url/control/euicc?eid=$eid"
like 'it is on the eUICC' "$body" "\"iccid\":\"$plain\",\"state\":\"DISABLED\""
es2plus cancelOrder "\"iccid\":\"$iccid\",\"eid\":\"$eid\",\"matchingId\":\"\",\"finalProfileStatusIndicator\":\"Available\""
failure 'cancelOrder of what is downloaded' 8.2.1 3.3
is 'no double effect' "$(ledger double_effects)" 0
request GET "$url/control/ledger"
like 'effects are in the ledger' "$body" '"ordered":1,"order-confirmed":1,"released":1'
request POST "$url/main/esim-profile-management/vwip/enable" "{\"esimProfile\":{\"iccid\":\"$plain\"}}"
is 'another protocol enables it' "$status" 202

# ---- codes ----

reset
control es2plus/stock '[{"profile_type":"A","count":2},{"profile_type":"B","count":1},{"profile_type":"C","forbidden":true}]'
control es2plus/stock "[{\"profile_type\":\"B\",\"iccid\":\"$a\"},{\"profile_type\":\"B\",\"iccid\":\"$b\",\"forbidden\":true}]"
es2plus downloadOrder "\"iccid\":\"$a\",\"profileType\":\"A\""
failure 'type and ICCID do not fit' 8.2.5 3.8
es2plus downloadOrder "\"iccid\":\"${a}F\",\"profileType\":\"B\""
success 'order of an ICCID'
es2plus downloadOrder "\"iccid\":\"$a\""
failure 'in use' 8.2.1 3.3
es2plus downloadOrder "\"iccid\":\"$b\""
failure 'not allowed' 8.2.1 1.2
es2plus downloadOrder '"iccid":"8900000000000000000"'
failure 'ICCID not known' 8.2.1 3.9
es2plus downloadOrder '"profileType":"C"'
failure 'type not allowed' 8.2.5 1.2
es2plus downloadOrder '"profileType":"D"'
failure 'type not known' 8.2.5 3.9
es2plus downloadOrder '"profileType":"A"'
success 'first of two'
first=$(member iccid)
es2plus downloadOrder '"profileType":"A"'
success 'second of two'
second=$(member iccid)
unlike 'another one' "$first" "$second"
es2plus downloadOrder '"profileType":"A"'
failure 'none left' 8.2.5 3.7
es2plus confirmOrder "\"iccid\":\"$first\",\"matchingId\":\"\",\"releaseFlag\":true"
failure 'default SM-DP+ use without an EID' 8.1.1 2.2
es2plus confirmOrder "\"iccid\":\"$first\",\"matchingId\":\"X\",\"smdsAddress\":\"ds.example.com\",\"releaseFlag\":true"
failure 'SM-DS without an EID' 8.1.1 2.2
es2plus confirmOrder "\"iccid\":\"$first\",\"matchingId\":\"a b\",\"releaseFlag\":true"
failure 'matching ID malformed' 8.2.6 2.1
es2plus confirmOrder "\"iccid\":\"$first\",\"matchingId\":\"M-1\",\"confirmationCode\":\"42\",\"releaseFlag\":true"
success 'a matching ID'
es2plus confirmOrder "\"iccid\":\"$second\",\"matchingId\":\"M-1\",\"releaseFlag\":true"
failure 'matching ID in use' 8.2.6 3.3
es2plus confirmOrder "\"iccid\":\"$second\",\"releaseFlag\":true"
success 'one that the SM-DP+ makes'
like 'has a shape' "$(member matchingId | tr '0-9A-F' x)" xxxxx-xxxxx-xxxxx-xxxxx
es2plus confirmOrder "\"iccid\":\"$first\",\"matchingId\":\"M-1\",\"releaseFlag\":true"
failure 'confirmed twice' 8.2.1 3.3
setting '{"accept_repeats":true}'
es2plus confirmOrder "\"iccid\":\"$first\",\"matchingId\":\"M-1\",\"releaseFlag\":true"
success 'unless repeats are accepted'
setting '{"accept_repeats":false}'
es2plus cancelOrder "\"iccid\":\"$first\",\"finalProfileStatusIndicator\":\"Available\""
failure 'matching ID missing' 8.2.6 2.2
es2plus cancelOrder "\"iccid\":\"$first\",\"matchingId\":\"M-2\",\"finalProfileStatusIndicator\":\"Available\""
failure 'another matching ID' 8.2.6 3.10
setting '{"old_codes":true}'
es2plus cancelOrder "\"iccid\":\"$first\",\"matchingId\":\"M-1\",\"eid\":\"$eid\",\"finalProfileStatusIndicator\":\"Available\""
failure 'another EID, as old tables print it' 8.1.1 3.1
es2plus cancelOrder "\"iccid\":\"$first\",\"matchingId\":\"M-1\",\"finalProfileStatusIndicator\":\"Available\""
success 'cancelled'
es2plus downloadOrder '"profileType":"A"'
is 'and back in stock' "$(member iccid)" "$first"
es2plus cancelOrder "\"iccid\":\"$first\",\"finalProfileStatusIndicator\":\"Unavailable\""
success 'cancelled for ever'
es2plus downloadOrder '"profileType":"A"'
failure 'not back in stock' 8.2.5 3.7
es2plus cancelOrder "\"iccid\":\"$first\""
failure 'final status missing' 8.2.1 2.2
es2plus cancelOrder "\"iccid\":\"$first\",\"finalProfileStatusIndicator\":\"Gone\""
failure 'final status wrong' 8.2.1 2.1
es2plus downloadOrder "\"iccid\":\"12\""
failure 'ICCID malformed' 8.2.1 2.1
es2plus downloadOrder "\"eid\":\"12\""
failure 'EID malformed' 8.1.1 2.1
es2plus downloadOrder '"profiletype":"A"'
failure 'unknown member' 1.3.1 2.1
es2plus confirmOrder "\"iccid\":\"$a\",\"releaseFlag\":\"true\""
failure 'wrong type' 1.3.1 2.1
es2plus confirmOrder "\"iccid\":\"$a\""
failure 'releaseFlag missing' 1.3.1 2.2
calls=$((calls - 1))
es2plus downloadOrder
failure 'a call identifier that was used' 1.6 3.3
setting '{"requester":"9.9.9"}'
es2plus downloadOrder
failure 'another requester' 1.1 1.1
setting '{"requester":null,"smds":"unreachable"}'
es2plus confirmOrder "\"iccid\":\"$a\",\"eid\":\"$eid\",\"matchingId\":\"S\",\"smdsAddress\":\"ds.example.com\",\"releaseFlag\":true"
failure 'SM-DS not reachable' 8.9 5.1
setting '{"smds":"error"}'
es2plus confirmOrder "\"iccid\":\"$a\",\"eid\":\"$eid\",\"matchingId\":\"S\",\"smdsAddress\":\"ds.example.com\",\"releaseFlag\":true"
failure 'SM-DS in error' 8.9 4.2
setting '{"smds":"ok","cmlink":true,"plain_iccid":true}'
es2plus confirmOrder "\"iccid\":\"$a\",\"eid\":\"$eid\",\"matchingId\":\"S\",\"smdsAddress\":\"ds.example.com\",\"releaseFlag\":true"
like 'codes 0 on success' "$body" '"Executed-Success","statusCodeData":{"subjectCode":"0","reasonCode":"0"'
es2plus downloadOrder '"profileType":"B"'
iccid=$(member iccid)
is 'no padding' "${#iccid}" 19
setting '{"cmlink":false,"warn":true}'
es2plus confirmOrder "\"iccid\":\"$iccid\",\"matchingId\":\"W\",\"releaseFlag\":true"
like 'Executed-WithWarning' "$body" '"Executed-WithWarning"'
setting '{"warn":false,"full_iccid":true}'
es2plus downloadOrder "\"iccid\":\"$a\""
failure 'only ICCIDs of 20 places' 8.2.1 2.1
setting '{"full_iccid":false,"bare_iccid":true}'
es2plus downloadOrder "\"iccid\":\"${a}F\""
failure 'only ICCIDs without padding' 8.2.1 2.1
setting '{"bare_iccid":false,"digits_only":true}'
es2plus downloadOrder "\"iccid\":\"${a}F\""
is 'a schema that knows no padding' "$status" 400
setting '{"digits_only":false,"no_codes":true}'
es2plus releaseProfile "\"iccid\":\"$a\""
is 'Failed without codes' "$body" '{"header":{"functionExecutionStatus":{"status":"Failed"}}}'
request POST "$url/main/gsma/rsp/v2/es2plus/releaseProfile" '{}' -H 'X-Admin-Protocol: gsma/rsp/v2.2.0'
is 'another path' "$body" '{"header":{"functionExecutionStatus":{"status":"Failed"}}}'
request POST "$url/control/config" '{"server":"main","es2plus":{"nonsense":1}}'
is 'unknown settings are refused' "$status" 400

# ---- HTTP ----

reset
request POST "$url/main/gsma/rsp2/es2plus/downloadOrder" '{}'
failure 'X-Admin-Protocol is needed' 1.3.2 2.1
request POST "$url/main/gsma/rsp2/es2plus/downloadOrder" '{}' -H 'X-Admin-Protocol: gsma/rsp/v2.2.0'
failure 'a header is needed' 1.3.1 2.2
request POST "$url/main/gsma/rsp2/es2plus/downloadOrder" '{' -H 'X-Admin-Protocol: gsma/rsp/v2.2.0'
is 'no JSON: 400' "$status" 400
request GET "$url/main/gsma/rsp2/es2plus/downloadOrder"
is 'GET: 405' "$status" 405
request POST "$url/main/gsma/rsp2/es2plus/resetOrder" '{}'
is 'an unknown function: 404' "$status" 404
request POST "$url/main/gsma/rsp2/es2plus/downloadOrder" '' --data-binary '{}' -H 'Content-Type: text/plain'
is 'another content type: 415' "$status" 415

# ---- faults, and what is done twice ----

reset
fault '{"path":"downloadOrder","fault":"timeout_after_effect","count":1}'
es2plus downloadOrder '"profileType":"A"'
is 'an answer is lost' "$code" 28
es2plus downloadOrder '"profileType":"A"'
success 'a second order takes another profile'
is 'which is a double effect' "$(ledger double_effects)" 1
reset
fault '{"path":"downloadOrder","fault":"reset_after_effect","count":1}'
es2plus downloadOrder "\"iccid\":\"$a\""
es2plus downloadOrder "\"iccid\":\"$a\""
failure 'one of the same ICCID does not' 8.2.1 3.3
es2plus confirmOrder "\"iccid\":\"$a\",\"matchingId\":\"K\",\"releaseFlag\":true"
success 'and can be confirmed'
is 'no double effect' "$(ledger double_effects)" 0
fault '{"path":"releaseProfile","fault":"status","status":200,"code":"8.9/4.2","count":1}'
es2plus releaseProfile "\"iccid\":\"$a\""
failure 'a fault with codes of ES2+' 8.9 4.2
is 'is HTTP 200' "$status" 200
fault '{"fault":"status","status":503,"count":1}'
es2plus releaseProfile "\"iccid\":\"$a\""
is 'a fault of a gateway' "$status" 503
fault "{\"fault\":\"wrong_iccid\",\"iccid\":\"$b\",\"count\":1}"
es2plus downloadOrder "\"iccid\":\"$b\""
unlike 'a wrong ICCID' "$body" "$b"
no_fault

# ---- devices and notifications ----

reset
setting "{\"notify_url\":\"$url/hook/progress\"}"
es2plus downloadOrder "\"eid\":\"$eid\",\"profileType\":\"A\""
iccid=$(member iccid)
es2plus confirmOrder "\"iccid\":\"$iccid\",\"eid\":\"$eid\",\"matchingId\":\"TOKEN\",\"confirmationCode\":\"42\",\"releaseFlag\":true"
request POST "$url/control/es2plus/download" "{\"eid\":\"$eid2\",\"matching_id\":\"TOKEN\"}"
like 'not for this eUICC' "$body" 'failed at 1'
request POST "$url/control/es2plus/download" "{\"eid\":\"$eid\",\"activation_code\":\"LPA:1\$h\$TOKEN\$\$1\",\"confirmation_code\":\"41\"}"
like 'a wrong confirmation code' "$body" 'failed at 2'
request POST "$url/control/es2plus/download" "{\"eid\":\"$eid\",\"matching_id\":\"TOKEN\",\"confirmation_code\":\"42\",\"until\":3}"
like 'downloaded' "$body" '"state":"Downloaded"'
request POST "$url/control/es2plus/download" "{\"eid\":\"$eid\",\"matching_id\":\"TOKEN\",\"confirmation_code\":\"42\"}"
like 'downloaded again by the same eUICC, and installed' "$body" '"state":"Installed"'
notified 8
progress=$(tr -d '\\' <<<"$body")
like 'notification of the refusal' "$progress" '"notificationPointId":1,"notificationPointStatus":{"status":"Failed","statusCodeData":{"subjectCode":"8.1.1","reasonCode":"3.8"}}'
like 'of the wrong code' "$progress" '"notificationPointId":2,"notificationPointStatus":{"status":"Failed","statusCodeData":{"subjectCode":"8.2.7","reasonCode":"3.8"}}'
like 'of the download' "$progress" '"notificationPointId":3,"notificationPointStatus":{"status":"Executed-Success"}'
like 'of the installation' "$progress" '"notificationPointId":4,"notificationPointStatus":{"status":"Executed-Success"},"resultData"'
like 'with EID and padded ICCID' "$progress" "\"eid\":\"$eid\",\"iccid\":\"$iccid\",\"profileType\":\"A\",\"timestamp\":\"2"

reset
setting "{\"notify_url\":\"$url/hook/progress\",\"cmlink\":true,\"auto_download_ms\":50}"
es2plus downloadOrder "\"eid\":\"$eid\""
iccid=$(member iccid)
es2plus confirmOrder "\"iccid\":\"$iccid\",\"eid\":\"$eid\",\"matchingId\":\"\",\"releaseFlag\":true"
notified 3
progress=$(tr -d '\\' <<<"$body")
like 'a device comes by itself; point as CMLink writes it' "$progress" '"notificationPointId":"4"'
like 'and its time' "$progress" '"timeStamp":"'
profile "${iccid%F}"
like 'it is installed' "$body" '"state":"Installed"'
control es2plus/notify "{\"iccid\":\"$iccid\",\"point\":101,\"status\":\"Failed\",\"subject\":\"8.1\",\"reason\":\"4.2\"}"
notified 4
setting '{"notify_v3":true,"cmlink":false}'
control es2plus/notify "{\"iccid\":\"$iccid\",\"point\":7}"
notified 5
like 'HandleNotification' "$(tr -d '\\' <<<"$body")" '"notificationEvent":7,"notificationEventStatus":{"status":"Executed-Success"}'
like 'a notification as it is told' "$(tr -d '\\' <<<"$body")" '"notificationPointId":"101","notificationPointStatus":{"status":"Failed"'

reset
es2plus downloadOrder "\"eid\":\"$eid\""
iccid=$(member iccid)
es2plus confirmOrder "\"iccid\":\"$iccid\",\"eid\":\"$eid\",\"matchingId\":\"\",\"releaseFlag\":true"
request POST "$url/control/es2plus/download" "{\"eid\":\"$eid\",\"fail_point\":4,\"subject\":\"8.1\",\"reason\":\"4.8\"}"
like 'an installation that fails' "$body" '"state":"Error"'
es2plus cancelOrder "\"iccid\":\"$iccid\",\"eid\":\"$eid\",\"finalProfileStatusIndicator\":\"Unavailable\""
success 'an order in error can be cancelled'
request POST "$url/control/es2plus/download" "{\"eid\":\"$eid\"}"
is 'nothing for this eUICC' "$status" 400
request GET "$url/control/es2plus/summary"
like 'states are counted' "$body" '"Unavailable":1'

# ---- mutual TLS ----

if command -v openssl >/dev/null; then
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout "$dir/ca.key" -out "$dir/ca.pem" 2>/dev/null
	for name in server client; do
		openssl req -newkey rsa:2048 -nodes -subj /CN=$name -keyout "$dir/$name.key" -out "$dir/$name.csr" 2>/dev/null
		openssl x509 -req -in "$dir/$name.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -days 2 \
			-extfile <(echo 'subjectAltName=IP:127.0.0.1') -out "$dir/$name.pem" 2>/dev/null
	done
	start tls --tls-cert="$dir/server.pem" --tls-key="$dir/server.key" --client-ca="$dir/ca.pem"
	request POST "$url/control/config" '{"server":"main","client_cert":true}' --cacert "$dir/ca.pem"
	es2plus downloadOrder '' --cacert "$dir/ca.pem"
	is 'without a client certificate: 401' "$status" 401
	es2plus downloadOrder '' --cacert "$dir/ca.pem" --cert "$dir/client.pem" --key "$dir/client.key"
	success 'with one'
fi

finish
