#!/bin/sh
echo -n "Image [$name]..."
test -f /.profile && . /.profile
insserv network
echo done
