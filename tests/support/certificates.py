"""Certificates made with openssl, by the recipe in docs/howto/tls.md, and with one thing wrong in each."""

from __future__ import annotations

import subprocess
from pathlib import Path

HOWTO = Path(__file__).resolve().parents[2] / "docs" / "howto" / "tls.md"

# Only `openssl ca` sets both dates: `openssl req` cannot make a certificate that has expired.
CA = """
[ca]
default_ca = settings
[settings]
database = index.txt
unique_subject = no
new_certs_dir = .
default_md = sha256
policy = policy
rand_serial = yes
[policy]
commonName = supplied
"""

MORE = r"""
touch index.txt
dated() {  # name, extensions, from, to
    openssl req -new -config certificates.cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc \
        -subj "/CN=$1" -keyout $1.key -out $1.csr
    openssl ca -batch -notext -config ca.cnf -cert ca.pem -keyfile ca.key -in $1.csr -extfile certificates.cnf \
        -extensions $2 -startdate $3 -enddate $4 -out $1.pem
}
for kind in server client; do
    dated expired-$kind $kind 20200101000000Z 20210101000000Z
    dated future-$kind $kind 20900101000000Z 20910101000000Z
    $new -extensions $kind -days 10 -subj "/CN=alone" -keyout alone-$kind.key -out alone-$kind.pem
done
$new -extensions authority -days 10 -subj "/CN=Somebody else" -keyout other-ca.key -out other-ca.pem
$new -CA other-ca.pem -CAkey other-ca.key -days 10 -extensions client -subj "/CN=stranger" \
    -keyout stranger.key -out stranger.pem
openssl pkey -in server.key -aes256 -passout pass:secret -out encrypted.key
openssl x509 -in server.pem -outform der -out server.der
cat server.pem server.key > both.pem
"""


def make_certificates(folder: Path) -> None:
    """Make the certificates of the page and those of `MORE` in a folder."""
    page = HOWTO.read_text()
    config = page.partition("```ini host=observatory file=certificates.cnf\n")[2].partition("```")[0]
    recipe = page.partition("```sh host=observatory\nnew=")[2].partition("```")[0]
    (folder / "certificates.cnf").write_text(config)
    (folder / "ca.cnf").write_text(CA)
    script = f"set -e\nnew={recipe}\n{MORE}"
    subprocess.run(["sh", "-c", script], cwd=folder, check=True, capture_output=True)
