#!/bin/sh
# A database and an account for it, in the running cluster or else in one of the case's own, until it is stopped.
set -eu
. "$PATCHLAB_SUITE/lib.sh"
name=patchlab_interop
own=/var/tmp/patchlab-interop-cluster
getent passwd postgres >/dev/null || not_here "there is no PostgreSQL server: the user postgres is missing"
programs=$(find /usr/lib/postgresql /usr/pgsql-* /usr/bin -maxdepth 3 -name initdb 2>/dev/null | sort -V | tail -n 1)
programs=${programs%/initdb}
psql=$programs/psql
[ -x "$psql" ] || psql=psql
if awk '$4 == "0A" && $2 !~ /^(0100007F|0{24}01000000):/ && substr($2, length($2) - 4) == ":1538" { found = 1 } END { exit !found }' \
    /proc/net/tcp /proc/net/tcp6 2>/dev/null; then
    how='the running cluster' port=5432
elif [ -n "$programs" ]; then
    how="a cluster of the case's own, for nothing listens on port 5432" port=5439
else
    not_here "nothing listens on port 5432, and no PostgreSQL server is installed"
fi
as_before 'exercised is' "$how"
as_postgres() { (cd / && runuser -u postgres -- "$@"); }
if [ $port = 5432 ]; then socket=; else socket="host=$own/socket"; fi
sql() { as_postgres "$psql" -XAtqw "$socket port=$port dbname=postgres" -v ON_ERROR_STOP=1 "$@"; }

clear_up() {
    trap '' TERM INT
    if [ $port = 5432 ]; then
        sql -c "DROP DATABASE IF EXISTS $name WITH (FORCE)" -c "DROP ROLE IF EXISTS $name" >/dev/null 2>&1 || true
    else
        as_postgres "$programs/pg_ctl" -D $own/data -m immediate -s stop >/dev/null 2>&1 || true
        rm -rf $own
    fi
}
trap clear_up EXIT
trap 'exit 0' TERM INT
if [ $port = 5439 ]; then
    rm -rf $own
    mkdir -m 700 $own
    mkdir -m 700 $own/socket
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $own/key -out $own/certificate -subj /CN=patchlab -days 3650 2>log ||
        { cat log; echo "could not make a certificate"; exit 99; }
    chown -R postgres: $own
    as_postgres "$programs/initdb" -D $own/data -A peer -E UTF8 --locale=C --no-sync >log 2>&1 || { tail -n 5 log; echo "initdb failed"; exit 1; }
    echo 'host all all all scram-sha-256' >>$own/data/pg_hba.conf
    as_postgres "$programs/pg_ctl" -D $own/data -s -w -t 60 -l $own/log -o "-p $port -k $own/socket -c listen_addresses=$PATCHLAB_ADDRESS_SERVER \
        -c ssl=on -c ssl_cert_file=$own/certificate -c ssl_key_file=$own/key -c fsync=off" start >log 2>&1 ||
        { tail -n 5 $own/log; echo "a cluster of the case's own did not start"; exit 1; }
fi
password=$(head -c 15 /dev/urandom | base64 | tr -d '/+=')
sql -c "DROP DATABASE IF EXISTS $name" -c "DROP ROLE IF EXISTS $name" >log 2>&1 || not_here "the cluster does not let its owner in ($(tail -n 1 log))"
sql -c "CREATE ROLE $name LOGIN PASSWORD '$password'" -c "CREATE DATABASE $name OWNER $name TEMPLATE template0" >log 2>&1 ||
    { cat log; echo "the cluster could not make a database"; exit 1; }
printf '%s\n%s\n%s\n' $port $name "$password" >handed
chmod 600 handed
hand_out handed
