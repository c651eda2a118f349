#!/bin/sh
rm -rf /usr/share/doc/openssl /usr/share/doc/curl
rm -f /etc/services /usr/share/perl5/Debconf/Log.pm
