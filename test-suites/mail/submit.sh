#!/bin/sh
set -u
. "$PATCHLAB_SUITE/lib.sh"
fetch >handed || { echo "Bail out! the server tells of no mailbox"; exit 1; }
{ read -r port && read -r recipient; } <handed
sender=patchlab@$(hostname)
mark=$(head -c 8 /dev/urandom | od -An -tx1 | tr -d ' \n')

# message NAME: a small one, with this name as its mark.
message() {
    printf 'From: <%s>\r\nTo: <%s>\r\nSubject: a test\r\nX-Patchlab-Interop: %s-%s\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n' \
        "$sender" "$recipient" "$mark" "$1"
}
# submit FILE RECIPIENT ARGUMENT...
submit() {
    file=$1 to=$2
    shift 2
    timeout 60 curl -sS --max-time 50 --url "smtp://$PATCHLAB_NAME_SERVER:$port/$(hostname)" --mail-from "$sender" --mail-rcpt "$to" --upload-file "$file" \
        -v "$@" >answer 2>&1
}
# reply: the last thing that the server said.
reply() { tr -d '\r' <answer | sed -n 's/^< //p' | grep -E '^[45]' | tail -n 1; }
accepted() { submit "$@" || { echo "refused: $(reply) $(tail -n 1 answer)"; return 1; }; }
# arrived NAME: within 20 s, as the body file NAME says.
arrived() {
    tries=0
    until fetch | tr -d '\r' >box && grep -q "^X-Patchlab-Interop: $mark-$1\$" box; do
        tries=$((tries + 1))
        [ $tries -lt 20 ] || { echo "the message is not in the mailbox after 20 s"; return 1; }
        sleep 1
    done
    awk -v mark="X-Patchlab-Interop: $mark-$1" '
        $0 == mark { mine = 1 }
        mine && body && /^end of the message$/ { exit }
        mine && body { print }
        mine && $0 == "" { body = 1 }' box >found
    tr -d '\r' <"$1.body" | sed '/^end of the message$/,$d' | cmp - found >/dev/null || { echo "the message arrived changed"; return 1; }
}
# send NAME ARGUMENT...: the body of that name, and see it arrive.
send() {
    name=$1
    shift
    { message "$name"; cat "$name.body"; } >"$name.mail"
    accepted "$name.mail" "$recipient" "$@" && arrived "$name"
}
treated() { # WHAT FILE RECIPIENT ARGUMENT...
    what=$1
    shift
    if submit "$@"; then found=taken; else found="refused: $(reply | cut -d" " -f 1,2)"; fi
    as_before "$what" "$found"
}
offers() { openssl s_client -connect "$PATCHLAB_ADDRESS_SERVER:$port" -starttls smtp "$@" </dev/null >said 2>&1 && grep -q 'Cipher is [A-Z]' said; }
starttls() {
    what=$1
    shift
    if offers "$@"; then found=yes; else found=no; fi
    as_before "$what" "$found"
}
capabilities() {
    submit small.mail "$recipient" --ssl -k
    as_before capabilities "$(tr -d '\r' <answer | sed -n 's/^< 250[- ]//p' | grep -E '^(SIZE|PIPELINING|8BITMIME|SMTPUTF8|AUTH|DSN|CHUNKING|STARTTLS)' | sort -u | tr '\n' ' ')"
}
printf 'A line.\r\n.\r\n..two dots, and .one\r\nUmlauts: äöü ☃\r\n\r\nThe end.\r\nend of the message\r\n' >small.body
{ awk 'BEGIN { for (i = 0; i < 20000; i++) printf "line %d of a long message, with some words to fill it up\r\n", i * 7919 % 20011 }'; printf 'end of the message\r\n'; } >long.body
for each in 1 2 3 4 5; do printf 'message %s\r\nend of the message\r\n' $each >many$each.body; done
row() { for each in 1 2 3 4 5; do send many$each --ssl -k || return 1; done; }

check 'a message with lone dots and umlauts arrives unchanged' send small --ssl -k
check 'a message of 1 MB arrives unchanged' send long --ssl -k
check 'five messages in a row arrive' row
check 'TLS is offered, as before' starttls TLS
check 'TLS 1.2 is spoken, as before' starttls 'TLS 1.2' -tls1_2
check 'TLS 1.3 is spoken, as before' starttls 'TLS 1.3' -tls1_3
check 'a client that can do without TLS only, as before' treated 'without TLS' small.mail "$recipient"
check 'a message to nobody here, as before' treated 'unknown user' small.mail "nobody-patchlab-interop@${recipient#*@}" --ssl -k
check 'a message to a foreign domain, as before' treated 'foreign domain' small.mail "someone@patchlab.example.org" --ssl -k
check 'what the server offers, as before' capabilities
the_end
