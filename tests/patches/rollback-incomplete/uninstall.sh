#!/bin/sh
rm /opt/acme/one
