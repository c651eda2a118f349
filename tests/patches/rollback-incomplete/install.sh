#!/bin/sh
mkdir -p /opt/acme
echo one >/opt/acme/one
echo two >/opt/acme/two
