#!/bin/sh
set -eu
systemctl enable --quiet autopkgtest-shell.service
