#!/bin/sh
! curl --silent --max-time 3 "http://$PATCHLAB_NAME_SERVER/" >page
