#!/bin/sh
apt-mark hold openssl
