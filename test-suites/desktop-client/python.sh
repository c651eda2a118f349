#!/bin/sh
set -eu
cat >program.py <<'P'
import hashlib, os, re, struct, subprocess, sys, zlib

data = b"patch" * 1000
assert zlib.decompress(zlib.compress(data)) == data
print(hashlib.sha256(data).hexdigest())
assert struct.unpack(">I", struct.pack(">I", 0xDEADBEEF))[0] == 0xDEADBEEF
assert re.fullmatch(r"(\w+)@(\w+)", "user@host").groups() == ("user", "host")
assert subprocess.run(["echo", "hi"], capture_output=True, text=True).stdout == "hi\n"
assert 2**200 % 1000007 == pow(2, 200, 1000007)
assert "Grüße".encode() == b"Gr\xc3\xbc\xc3\x9fe"
assert os.path.isdir("/etc") and sys.version_info >= (3, 6)
P
found=$(python3 -B program.py)
expected=$(yes patch | head -n 1000 | tr -d '\n' | sha256sum | cut -d' ' -f1)
[ "$found" = "$expected" ] || { echo "Python computes another digest than sha256sum"; exit 1; }
