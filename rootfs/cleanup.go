package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// leftovers are the files that package managers and their programs leave behind and that tell when and where they ran: copies of what they changed,
// logs and caches. Patterns are those of [path.Match]. What the tree had before stays as it was.
func leftovers() []string {
	return []string{
		"etc/passwd-", "etc/shadow-", "etc/group-", "etc/gshadow-", "etc/subuid-", "etc/subgid-", "etc/.pwd.lock",
		"var/cache/ldconfig/aux-cache", "var/log/alternatives.log", "var/log/fontconfig.log", "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret",
		// apt and dpkg
		"var/lib/dpkg/*-old", "var/cache/debconf/*-old", "var/log/dpkg.log", "var/log/bootstrap.log", "var/log/apt/*", "var/cache/apt/*.bin", "var/cache/apt/archives/*.deb",
		// rpm, dnf and zypper
		"var/lib/rpm/__db.*", "var/lib/rpm/.rpm.lock", "var/lib/rpm/.keyring.lock", "usr/lib/sysimage/rpm/__db.*", "usr/lib/sysimage/rpm/.rpm.lock", "usr/lib/sysimage/rpm/.keyring.lock",
		"var/lib/rpm/rpmdb.sqlite-shm", "usr/lib/sysimage/rpm/rpmdb.sqlite-shm", "var/lib/dnf/history.sqlite-shm", "var/lib/dnf/system-repo.lock", "usr/lib/sysimage/libdnf5/transaction_history.sqlite-shm", "var/lib/zypp/AnonymousUniqueId",
		"var/log/dnf*.log*", "var/log/hawkey.log*", "var/log/dnf.*.log*", "var/cache/dnf/*", "var/cache/libdnf5/*", "var/cache/yum/*",
		"var/log/zypper.log*", "var/log/zypp/*", "var/log/YaST2/*", "var/cache/zypp/*",
		// pacman and apk
		"var/log/pacman.log", "var/cache/pacman/pkg/*", "var/lib/pacman/db.lck", "var/log/apk.log", "var/cache/apk/*",
	}
}

// cleanUp takes out of the tree what belongs to the build and not to the image, and what must not be the same on two machines.
func (o *overlay) cleanUp(ctx context.Context) error {
	tree, err := o.work.current(ctx)
	if err != nil {
		return err
	}
	return o.work.edit(ctx, func(edit *layers.Editor) error {
		if tree != o.Tree {
			if err := restore(edit, o.Tree, leftovers()); err != nil {
				return err
			}
		}
		if len(o.ran) > 0 {
			if err := o.hostKeys(edit); err != nil {
				return err
			}
		}
		return resetMachineID(edit)
	})
}

// restore makes what patterns match as it was in the tree old.
func restore(edit *layers.Editor, old *layers.Tree, patterns []string) error {
	for _, pattern := range patterns {
		dir, base := path.Split(pattern)
		dir = path.Clean(dir)
		_, node, err := edit.Resolve(dir)
		if err != nil || !node.IsDir() {
			continue
		}
		for _, name := range node.Names() {
			if ok, err := path.Match(base, name); err != nil || !ok {
				continue
			}
			full := path.Join(dir, name)
			if err := edit.Remove(full); err != nil {
				return err
			}
			if _, before, err := old.ResolveParent(full); err == nil {
				if err := edit.Put(full, before); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// resetMachineID empties the machine's id, so that each machine gets one of its own when it starts (machine-id(5)). An empty file, and not
// "uninitialized", because the units of the packages are enabled as their packages want, and must not be preset once more.
func resetMachineID(edit *layers.Editor) error {
	const name = "etc/machine-id"
	_, node, err := edit.Resolve(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, _, err := edit.Resolve("usr/lib/systemd/systemd"); err != nil {
			return nil // nobody would read it
		}
	case err != nil:
		return err
	case node.Size == 0:
		return linkMachineID(edit)
	case node.IsRegular():
		data, err := edit.ReadFile(name, 1<<10)
		if err != nil {
			return fmt.Errorf("reading /%s: %w", name, err)
		}
		if strings.HasPrefix(string(data), "uninitialized") {
			return linkMachineID(edit) // systemd presets the units of such a machine when it starts, as its distribution wants
		}
	}
	return errors.Join(edit.WriteFile(name, nil, 0o444), linkMachineID(edit))
}

// linkMachineID makes D-Bus use the machine's id, where a tree has a copy of an old one for it.
func linkMachineID(edit *layers.Editor) error {
	const name = "var/lib/dbus/machine-id"
	if node, err := edit.Lookup(name); err != nil || !node.IsRegular() {
		return nil //nolint:nilerr // not there
	}
	return edit.Symlink("/etc/machine-id", name)
}

// hostKeysUnit makes the keys of a machine that has none before its ssh server starts.
const hostKeysUnit = `[Unit]
Description=Host keys for the ssh server
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key
Before=ssh.service sshd.service ssh.socket sshd.socket

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
`

// hostKeys takes away ssh host keys that were made during the build, since all machines of the image would share them, and lets each machine make its
// own when it starts. Keys that the tree or the description's overlay brought stay.
func (o *overlay) hostKeys(edit *layers.Editor) error {
	const dir = "etc/ssh"
	_, node, err := edit.Resolve(dir)
	if err != nil || !node.IsDir() {
		return nil //nolint:nilerr // no ssh server
	}
	kept := false
	for _, name := range node.Names() {
		if !strings.HasPrefix(name, "ssh_host_") || !(strings.HasSuffix(name, "_key") || strings.HasSuffix(name, "_key.pub")) {
			continue
		}
		full := path.Join(dir, name)
		_, _, before := o.Tree.Resolve(full)
		_, brought := fs.Stat(o.source.FS, "root/"+full)
		if before == nil || brought == nil {
			kept = true
			continue
		}
		if err := edit.Remove(full); err != nil {
			return err
		}
	}
	if kept {
		return nil
	}
	return makeKeysAtStart(edit)
}

// makeKeysAtStart adds the unit that makes host keys to a tree whose distribution, as Debian, makes them only when the ssh server is installed.
func makeKeysAtStart(edit *layers.Editor) error {
	for _, needed := range []string{"usr/sbin/sshd", "usr/lib/systemd/systemd", "etc/debian_version"} {
		if _, _, err := edit.Resolve(needed); err != nil {
			return nil //nolint:nilerr // it has no use for it
		}
	}
	const unit = "etc/systemd/system/ssh-host-keys.service"
	if err := edit.WriteFile(unit, []byte(hostKeysUnit), 0o644); err != nil {
		return err
	}
	return edit.Symlink("/"+unit, "etc/systemd/system/multi-user.target.wants/ssh-host-keys.service")
}
