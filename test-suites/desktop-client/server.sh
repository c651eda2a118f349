# A TLS server for one case, with a certificate authority of its own. serve PORT NAME: the folder at hand, under that certificate.
set -eu
servers=''
trap 'for pid in $servers; do kill "$pid" 2>/dev/null || true; done' EXIT
trap 'exit 1' INT TERM
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj '/CN=Lab CA' -days 2 2>/dev/null
# certificate NAME HOST DAYS
certificate() {
    cp ca.key "$1.key"
    openssl req -new -key "$1.key" -out "$1.csr" -subj "/CN=$2" 2>/dev/null
    printf 'subjectAltName=DNS:%s\n' "$2" >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days "$3" -extfile "$1.ext" -out "$1.pem" 2>/dev/null
}
serve() {
    openssl s_server -accept "$1" -cert "$2.pem" -key "$2.key" -WWW -quiet </dev/null >"server.$1.log" 2>&1 &
    servers="$servers $!"
    n=0
    until openssl s_client -connect "127.0.0.1:$1" </dev/null >/dev/null 2>&1; do
        n=$((n + 1))
        [ $n -lt 40 ] || { cat "server.$1.log"; echo "the test's own server does not start"; exit 99; }
        sleep 0.1
    done
}
get() { curl -sS --max-time 20 --noproxy '*' "$@"; }
