#!/bin/sh
set -u
. "$PATCHLAB_SUITE/lib.sh"
fetch >handed || { echo "Bail out! the server hands out no account"; exit 1; }
{ read -r port && read -r name && read -r password; } <handed
printf '*:*:*:*:%s\n' "$password" >right
echo '*:*:*:*:wrong' >wrong
chmod 600 right wrong
export PGPASSFILE="$PWD/right" PGCONNECT_TIMEOUT=15 PGCLIENTENCODING=UTF8
# Without the wrapper that looks for clusters of this machine.
psql=$(find /usr/lib/postgresql -path '*/bin/psql' 2>/dev/null | sort -V | tail -n 1)
psql=${psql:-psql}
sql() { timeout 60 "$psql" -XAtqw "host=$PATCHLAB_NAME_SERVER port=$port user=$name dbname=$name ${how:-}" -v ON_ERROR_STOP=1 "$@"; }
why() { sed -n 's/^.*\(FATAL\|ERROR\|error\): *//p' failure | tail -n 1 | sed "s/\"[0-9.]*\"/the client/g; s/[0-9][0-9.]*[0-9]/N/g"; }

# is EXPECTED ARGUMENT...
is() {
    expected=$1
    shift
    found=$(sql "$@" 2>failure) || { cat failure; return 1; }
    [ "$found" = "$expected" ] || { echo "expected '$expected', found '$found'"; return 1; }
}
taken() { # WHAT SETTINGS
    how=$2
    if sql -c 'SELECT 1' >found 2>failure; then found=taken; else found="refused: $(why)"; fi
    as_before "$1" "$found"
}
stranger() {
    PGPASSFILE=$PWD/wrong
    ! sql -c 'SELECT 1' 2>failure || { echo "a wrong password is accepted"; return 1; }
    grep -q 'password authentication failed' failure || { cat failure; echo "expected 'password authentication failed'"; return 1; }
}
table() {
    sql -c "CREATE TABLE items (id integer PRIMARY KEY, name text NOT NULL, price numeric(10,2) CHECK (price >= 0), made timestamptz DEFAULT now())" \
        -c "INSERT INTO items VALUES (1, 'Schraube, größer', 0.10), (2, 'naïve ☃', 99999999.99)" &&
        is 'Schraube, größer|0.10' -c 'SELECT name, price FROM items WHERE id = 1' &&
        is '100000000.09' -c 'SELECT sum(price) FROM items'
}
transaction() {
    sql -c 'BEGIN' -c 'DELETE FROM items' -c 'ROLLBACK' && is 2 -c 'SELECT count(*) FROM items'
}
constraint() {
    ! sql -v VERBOSITY=sqlstate -c "INSERT INTO items VALUES (1, 'again', 1)" 2>failure || { echo "a second row with the same key is taken"; return 1; }
    grep -q 23505 failure || { cat failure; echo "expected the error 23505"; return 1; }
}
bulk() {
    awk 'BEGIN { for (i = 1; i <= 40000; i++) printf "%d\tname %d with some words to fill the line up to a hundred characters or so, %d\n", i, i * 7919 % 40000, i * i % 999983 }' >rows
    sql -c 'CREATE TABLE bulk (id integer, words text)' -c '\copy bulk FROM rows' && sql -c '\copy (SELECT * FROM bulk ORDER BY id) TO back' &&
        cmp rows back && is 40000 -c 'SELECT count(DISTINCT id) FROM bulk'
}
large() { is 2000000 -c "SELECT length(string_agg(repeat(md5(i::text), 125), '')) FROM generate_series(1, 500) AS i"; }
cancelled() {
    ! sql -v VERBOSITY=sqlstate -c "SET statement_timeout = '500ms'" -c 'SELECT pg_sleep(30)' 2>failure || return 1
    grep -q 57014 failure || { cat failure; echo "expected the error 57014"; return 1; }
}
prepared() { is 7 -c 'PREPARE add(integer, integer) AS SELECT $1 + $2' -c 'EXECUTE add(3, 4)'; }
many() {
    good=0
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ "$(sql -c 'SELECT 42')" != 42 ] || good=$((good + 1))
    done
    [ $good = 10 ] || { echo "expected 10 logins, found $good"; return 1; }
}
check 'a login by password' is "$name" -c 'SELECT current_user'
check 'a wrong password is refused' stranger
check 'a login without TLS, as before' taken 'without TLS' sslmode=disable
check 'a login with TLS, as before' taken 'with TLS' sslmode=require
check 'a login with TLS 1.2 at most, as before' taken 'TLS 1.2' 'sslmode=require ssl_max_protocol_version=TLSv1.2'
check 'a login with TLS 1.3 at least, as before' taken 'TLS 1.3' 'sslmode=require ssl_min_protocol_version=TLSv1.3'
check 'a login bound to its TLS channel, as before' taken 'channel binding' 'sslmode=require channel_binding=require'
check 'rows come back as they were written' table
check 'a transaction is taken back' transaction
check 'an error comes as its own' constraint
check '40000 rows there and back' bulk
check 'a value of 2 MB' large
check 'a statement that takes too long is ended' cancelled
check 'a prepared statement' prepared
check '10 logins in a row' many
the_end
