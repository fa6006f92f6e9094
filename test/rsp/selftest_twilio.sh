#!/usr/bin/env bash
#
# selftest_twilio.sh
#	Tests the simulator's Super SIM by itself, with curl.  Prints TAP.
#
. "$(dirname "$0")/lib.sh"

get() { request GET "$base$1" '' "${@:2}"; }
# form PATH FIELD...: each FIELD is name=value
form()
{
	local path=$1 data=()
	shift
	for field in "$@"; do data+=(--data-urlencode "$field"); done
	request POST "$base$path" '' "${data[@]}"
}
wait_for() # PATH TEXT
{
	for _ in $(seq 100); do
		get "$1"
		case $body in *"$2"*) return ;; esac
		sleep 0.02
	done
}


start main
base=$url/main/supersim/v1

# ---- ESimProfiles ----

control config '{"server":"main","supersim":{"reserve_ms":600,"schedule_ms":200}}'
form /ESimProfiles "Eid=$eid" CallbackMethod=POST
is 'reserved by EID: 201' "$status" 201
like 'status is new' "$body" '"status":"new"'
like 'its EID' "$body" "\"eid\":\"$eid\""
like 'no ICCID yet' "$body" '"iccid":null,"sim_sid":null'
like 'no address yet' "$body" '"smdp_plus_address":null,"matching_id":null,"activation_code":null'
hp=$(member sid)
is 'sid as the OpenAPI wants it' "$(grep -cE '^HP[0-9a-fA-F]{32}$' <<<"$hp")" 1
like 'url leads to it' "$body" "\"url\":\"$base/ESimProfiles/$hp\""
wait_for "/ESimProfiles/$hp" reserving
like 'then reserving' "$body" '"status":"reserving"'
wait_for "/ESimProfiles/$hp" available
like 'then available' "$body" '"status":"available"'
like 'with an ICCID' "$body" '"iccid":"8988307'
like 'with an address' "$body" '"smdp_plus_address":"sm-dp-plus.example.com"'
like 'by EID: no matching ID' "$body" '"matching_id":null,"activation_code":null'
hs=$(member sim_sid)
iccid=$(member iccid)
get "/Sims/$hs"
like 'its Sim is new' "$body" '"status":"new","fleet_sid":null'
like 'and has its ICCID' "$body" "\"iccid\":\"$iccid\""
form /ESimProfiles GenerateMatchingId=true CallbackMethod=GET
is 'reserved by matching ID' "$status" 201
hp2=$(member sid)
wait_for "/ESimProfiles/$hp2" available
lpa=$(member activation_code)
like 'activation code' "$lpa" '1$SM-DP-PLUS.EXAMPLE.COM$'
is 'ends in the matching ID' "${lpa##*\$}" "$(member matching_id)"
for bad in "Eid=$eid GenerateMatchingId=true" "CallbackMethod=POST" "GenerateMatchingId=false" \
	"Eid=123" "Eid=$eid CallbackMethod=PUT" "Eid=$eid CallbackUrl=nonsense" "Eid=$eid Colour=red" \
	"Eid=$eid Eid=$eid" "GenerateMatchingId=yes"; do
	# shellcheck disable=SC2086
	form /ESimProfiles $bad
	is "refused: $bad" "$status" 400
done
like 'errors in Twilio'\''s shape' "$body" '"more_info":"https://www.twilio.com/docs/errors/20001","status":400}'
request POST "$base/ESimProfiles" '{}'
is 'JSON is no form' "$status" 415
get /ESimProfiles/HP00000000000000000000000000000000
is 'unknown: 404' "$status" 404
like 'code 20404' "$body" '"code":20404'
request DELETE "$base/ESimProfiles/$hp"
is 'nothing can be deleted' "$status" 405
get "/ESimProfiles?Eid=$eid"
like 'listed by EID' "$body" "\"sid\":\"$hp\""
unlike 'and no other' "$body" "$hp2"
get "/ESimProfiles?SimSid=$hs"
like 'listed by Sim' "$body" "\"sid\":\"$hp\""
get "/ESimProfiles?Status=installed"
like 'listed by status' "$body" '"esim_profiles":[]'
get "/ESimProfiles?PageSize=1"
like 'the newest first' "$body" "[{\"sid\":\"$hp2\""
like 'the key' "$body" '"key":"esim_profiles"'
next=$(member next_page_url)
like 'next page' "$next" "$base/ESimProfiles?PageSize=1&Page=1&PageToken=PA"
form /ESimProfiles "Eid=$eid2"
request GET "$next"
like 'moves not by what is added' "$body" "[{\"sid\":\"$hp\""
like 'the last page' "$body" '"next_page_url":null'
for bad in PageSize=0 PageSize=1001 PageSize=x Page=1 Colour=red "PageToken=nonsense" Status=nonsense; do
	get "/ESimProfiles?$bad"
	is "refused: $bad" "$status" 400
done

# ---- the device ----

control supersim/download "{\"eid\":\"$eid\"}"
wait_for "/ESimProfiles/$hp" installed
like 'the device has fetched what is reserved for it' "$body" '"status":"installed"'
request GET "$url/control/euicc?eid=$eid"
like 'it is on the eUICC' "$body" "\"iccid\":\"$iccid\",\"state\":\"DISABLED\""
request POST "$url/control/supersim/download" "{\"eid\":\"$eid\"}"
is 'once only' "$status" 400
control supersim/download "{\"eid\":\"$eid2\",\"code\":\"LPA:$lpa\"}"
get "/ESimProfiles/$hp2"
like 'by its code, to any eUICC' "$body" "\"status\":\"installed\",\"eid\":\"$eid2\""
request POST "$url/control/supersim/download" "{\"eid\":\"$eid\",\"code\":\"$lpa\"}"
like 'a code works once' "$body" 'again'
form /ESimProfiles GenerateMatchingId=true
hp3=$(member sid)
wait_for "/ESimProfiles/$hp3" available
code3=$(member activation_code)
iccid3=$(member iccid)
request POST "$url/main/esim-profile-management/vwip/download" \
	"{\"esimProfile\":{\"eid\":\"$eid\"},\"activationCode\":\"LPA:$code3\"}"
get "/ESimProfiles/$hp3"
like 'a download by another protocol shows here' "$body" '"status":"installed"'
request GET "$url/control/euicc?eid=$eid"
like 'with the same ICCID' "$body" "$iccid3"

# ---- Sims and Fleets ----

form "/Sims/$hs" Status=active
is 'active without a Fleet' "$status" 400
like '83007' "$body" '"code":83007'
form /Fleets UniqueName=Meters DataLimit=500
is 'a Fleet needs a Network Access Profile' "$status" 400
form /Fleets UniqueName=Meters NetworkAccessProfile=everywhere DataLimit=500
is 'a Fleet' "$status" 201
hf=$(member sid)
like 'its limit' "$body" '"data_limit":500'
form /Fleets UniqueName=Meters NetworkAccessProfile=everywhere DataLimit=500
is 'its name is unique' "$status" 409
for bad in DataLimit=0 DataLimit=2000001 DataLimit=x DataEnabled=1 Colour=red SmsCommandsMethod=PUT IpCommandsUrl=x; do
	form /Fleets UniqueName=Other NetworkAccessProfile=x $bad
	is "refused: $bad" "$status" 400
done
get /Fleets
like 'listed' "$body" "\"sid\":\"$hf\""
get /Fleets/Meters
is 'found by its name' "$status" 200
form "/Fleets/$hf" DataLimit=600
like 'changed' "$body" '"data_limit":600'
form "/Sims/$hs" Status=active Fleet=Meters CallbackMethod=POST
is 'status and Fleet in one call: 202' "$status" 202
like 'scheduled' "$body" '"status":"scheduled"'
like 'the Fleet is set' "$body" "\"fleet_sid\":\"$hf\""
form "/Sims/$hs" Status=inactive
like 'no second change meanwhile' "$body" '"code":83010'
wait_for "/Sims/$hs" '"status":"active"'
like 'then active' "$body" '"status":"active"'
form "/Sims/$hs" Status=ready
like 'ready is only from new' "$body" '"code":83010'
form "/Sims/$hs" Status=new
is 'new cannot be set' "$status" 400
form "/Sims/$hs" Fleet=Nowhere
like 'an unknown Fleet' "$body" '"code":83006'
form "/Sims/$hs" "Fleet=$hf"
is 'a Fleet alone: 200' "$status" 200
form "/Sims/$hs" Colour=red
is 'unknown parameters' "$status" 400
form /Sims/HS00000000000000000000000000000000 Status=active
is 'an unknown Sim' "$status" 404
get "/Sims?Iccid=$iccid"
like 'found by ICCID' "$body" "\"sid\":\"$hs\""
get "/Sims?Fleet=Meters&Status=active"
like 'found by Fleet and status' "$body" "\"sid\":\"$hs\""
get "/Sims?Iccid=8988307000000000000"
like 'nothing found' "$body" '"sims":[]'
form /Sims Iccid=89883070000007537119
like 'a registration needs a code' "$body" '"code":83001'
form /Sims Iccid=89883070000007537119 RegistrationCode=H3LL0W0RLD
like 'not registrable' "$body" '"code":83002'
control supersim/account '{"server":"main","registrable":["89883070000007537119"]}'
form /Sims Iccid=89883070000007537119 RegistrationCode=H3LL0W0RLD
is 'registered' "$status" 201
form /Sims Iccid=89883070000007537119 RegistrationCode=H3LL0W0RLD
like 'once' "$body" '"code":83003'

# ---- the ledger ----

is 'no effect was had twice' "$(ledger double_effects)" 0
control reset '{}'
form /ESimProfiles GenerateMatchingId=true "CallbackUrl=http://127.0.0.1:9/x?op=1"
form /ESimProfiles GenerateMatchingId=true "CallbackUrl=http://127.0.0.1:9/x?op=2"
is 'two operations are no repeat' "$(ledger repeats)" 0
form /ESimProfiles GenerateMatchingId=true "CallbackUrl=http://127.0.0.1:9/x?op=1"
is 'the same operation again is one' "$(ledger repeats)" 1
is 'nobody had asked' "$(ledger unasked_repeats)" 1
is 'and its effect is a double one' "$(ledger double_effects)" 1
is 'all are effects' "$(ledger effects)" 3
request GET "$url/control/ledger?deeds=1"
like 'deeds are listed' "$body" '"what":"reserved"'
control reset '{}'
form /ESimProfiles "Eid=$eid"
get "/ESimProfiles?Eid=$eid"
form /ESimProfiles "Eid=$eid"
is 'an asked repeat' "$(ledger unasked_repeats)" 0
is 'is double nevertheless' "$(ledger double_effects)" 1
control supersim/account '{"server":"main","fleets":["F"],"sims":[{"iccid":"89883070000078034798","status":"new","fleet":"F"}]}'
get '/Sims?Iccid=89883070000078034798'
hs=$(member sid)
control fault '{"path":"/Sims/","method":"POST","fault":"reset_after_effect","count":1}'
form "/Sims/$hs" Status=active
get "/Sims/$hs"
like 'reset after the effect' "$body" '"status":"active"'
form "/Sims/$hs" Status=active
is 'the same change is no second effect' "$(ledger double_effects)" 1
is 'asked for' "$(ledger unasked_repeats)" 0

# ---- authorization, limits, faults ----

control config '{"server":"main","auth":{"username":"AC1","password":"secret"}}'
get /Fleets
is 'Basic is needed' "$status" 401
like 'code 20003' "$body" '"code":20003'
like 'challenge' "$headers" 'WWW-Authenticate: Basic'
get /Fleets -u AC1:wrong
is 'wrong password' "$status" 401
get /Fleets -u AC1:secret
is 'right password' "$status" 200
control config '{"server":"kore","auth":{"bearer":"token-1"}}'
base=$url/kore/supersim/v1
get /Fleets -H 'Authorization: Bearer token-1'
is 'bearer' "$status" 200
get /Fleets
is 'bearer is needed' "$status" 401
base=$url/third/supersim/v1
control fault '{"server":"third","fault":"status","status":429,"retry_after":2,"count":1}'
get /Sims
is '429' "$status" 429
like 'code 20429' "$body" '"code":20429'
like 'Retry-After' "$headers" 'Retry-After: 2'
control fault '{"server":"third","path":"ESimProfiles","method":"POST","fault":"device_fail","reason":"No stock.","count":1}'
form /ESimProfiles "Eid=$eid2"
get "/ESimProfiles/$(member sid)"
like 'a reservation that fails' "$body" '"status":"failed"'
like 'says why' "$body" '"error_message":"No stock."'
request GET "$url/third/supersim/v2/Sims"
is 'no other version' "$status" 404

# ---- callbacks ----

base=$url/main/supersim/v1
control reset '{}'
form /ESimProfiles "Eid=$eid" "CallbackUrl=$url/events/supersim/v1/Sims?op=abc" CallbackMethod=GET
hp=$(member sid)
for _ in $(seq 100); do
	request GET "$url/control/requests?n=10"
	case $body in */events/*) break ;; esac
	sleep 0.02
done
like 'a callback by GET' "$body" '"path":"/events/supersim/v1/Sims'
like 'with the sid' "$body" "\"Sid\":\"$hp\""
like 'and the status' "$body" '"Status":"available"'
like 'behind the reference' "$body" '"op":"abc"'
form /ESimProfiles "Eid=$eid" "CallbackUrl=$url/events/supersim/v1/Sims?op=def" CallbackMethod=POST
for _ in $(seq 100); do
	request GET "$url/control/requests?n=10"
	case $body in *AccountSid=AC*) break ;; esac
	sleep 0.02
done
like 'a callback by POST' "$body" 'AccountSid=AC'

# ---- many ----

control supersim/account '{"server":"big","profiles":2500}'
base=$url/big/supersim/v1
n=0
pages=0
next=$base/Sims?PageSize=1000
while [ -n "$next" ] && [ $pages -lt 10 ]; do
	curl -sS "$next" >"$dir/page"
	n=$((n + $(grep -o '"iccid":' "$dir/page" | wc -l)))
	pages=$((pages + 1))
	next=$(sed -n 's/.*"next_page_url":"\([^"]*\)".*/\1/p' "$dir/page")
done
is 'all pages' "$n in $pages" '2500 in 3'

# ---- lies, and shorter pages ----

control config '{"server":"liar","supersim":{"page_size":2,"lies":[
	{"method":"GET","path":"/ESimProfiles","after":1,"resource":{"iccid":null,"status":"quantum"},"meta":{"key":"x"}},
	{"path":"/Fleets","count":0,"status":502,"body":"<html>","content_type":"text/html"}]}}'
control supersim/account '{"server":"liar","profiles":3}'
base=$url/liar/supersim/v1
get /ESimProfiles
is 'pages are no longer than the setting' "$(grep -o '"iccid":' "$dir/body" | wc -l)" 2
like 'the first answer is true' "$body" '"status":"available"'
get /ESimProfiles
like 'the second one is not' "$body" '"status":"quantum"'
like 'null too' "$body" '"iccid":null'
like 'nor what the list says of itself' "$body" '"key":"x"'
get /ESimProfiles
unlike 'the third one is' "$body" quantum
get /Fleets
is 'another status' "$status" 502
is 'another body' "$body" '<html>'

finish
