package rootfs

import (
	"testing"

	"github.com/imgbuild/imgbuild/description"
)

func TestBlind(t *testing.T) {
	both := func(script string) []*description.Image {
		var list []*description.Image
		for _, kind := range []string{"tbz", "oci"} {
			list = append(list, load(t, map[string]string{"config.xml": describe(kind), "config.sh": script}))
		}
		return list
	}
	for _, script := range []string{
		"#!/bin/bash\ntest -f /.kconfig && . /.kconfig\ntest -f /.profile && . /.profile\nset -e\necho \"$kiwi_iname\" > /etc/motd\nsystemctl enable sshd\nbaseCleanMount\nexit 0\n",
		"#!/usr/bin/env bash\n# eval kiwi_type\nset -euxo pipefail\nrm -rf /var/cache/x\nln -sf ../x /etc/y\nfor p in $kiwi_profiles; do echo $p; done\n", "sed -i s/a/b/ /etc/fstab\n",
		"source /.kconfig\n[ -f /.profile ] && source /.profile\nuseradd x\n",
	} {
		if !blind("config.sh", both(script)) {
			t.Errorf("%q: it does the same for all types", script)
		}
	}
	for _, script := range []string{
		"if [ $kiwi_type = oci ]; then :; fi", "echo ${!kiwi_*}", "set -a\n", "set -ea", "set | sort", "set", "export PATH", "env > /x", "declare -p", "eval x", ". /etc/os-release",
		"source /usr/lib/x", "test -e /x && . /image/functions", "cat /.profile", "echo x >> /.profile", "grep type .profile", "bash /x", "python3 -c 1", "/image/other.sh", "./x", "/usr/local/bin/make-it",
		"awk 1", "dracut -f", "hostname", "cat /etc/hostname", "#!/usr/bin/python3\n", "printenv", "cat /proc/self/environ", "sh -c true", "echo ${kiwi_}", "compgen -v", "xargs x", "/opt/vendor/setup", "update-initramfs -u",
	} {
		if blind("config.sh", both(script)) {
			t.Errorf("%q: it may tell types apart", script)
		}
	}
}
