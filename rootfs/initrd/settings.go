package initrd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"

	"github.com/imgbuild/imgbuild/layers"
)

// maxSetting bounds a file of settings, in bytes.
const maxSetting = 16 << 20

// Settings are the files and directories that say what goes into an initial RAM disk, as far as descriptions change them.
func Settings() []string {
	return []string{
		"etc/initramfs-tools", "etc/dracut.conf", "etc/dracut.conf.d", "etc/crypttab", "etc/cryptsetup-initramfs", "etc/modprobe.d", "etc/mdadm", "etc/mdadm.conf",
		"etc/lvm", "etc/multipath.conf", "etc/vconsole.conf", "etc/default/keyboard",
		"etc/mkinitcpio.conf", "etc/mkinitcpio.conf.d", "etc/mkinitfs", "etc/plymouth",
	}
}

// SettingsDiffer reports whether two trees have other settings for initial RAM disks. The keyboard, which is a matter of taste unless a passphrase
// has to be typed, counts only where there is an encrypted disk.
func SettingsDiffer(a, b *layers.Tree) (bool, error) {
	_, _, noCrypttab := b.Resolve("etc/crypttab")
	for _, name := range Settings() {
		if noCrypttab != nil && (name == "etc/vconsole.conf" || name == "etc/default/keyboard") {
			continue
		}
		x, err1 := a.Lookup(name)
		y, err2 := b.Lookup(name)
		switch {
		case errors.Is(err1, fs.ErrNotExist) && errors.Is(err2, fs.ErrNotExist):
			continue
		case err1 != nil || err2 != nil:
			return true, nil
		}
		same, err := equal(x, y)
		if err != nil {
			return false, fmt.Errorf("comparing /%s: %w", name, err)
		}
		if !same {
			return true, nil
		}
	}
	return false, nil
}

// equal compares two entries with all below them, but for owners and times.
func equal(a, b *layers.Node) (bool, error) {
	switch {
	case a == b:
		return true, nil
	case a.Mode != b.Mode || a.Size != b.Size || a.Target != b.Target || a.Len() != b.Len():
		return false, nil
	case a.IsRegular():
		return equalContent(a, b)
	}
	for _, name := range a.Names() {
		other := b.Child(name)
		if other == nil {
			return false, nil
		}
		if same, err := equal(a.Child(name), other); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

func equalContent(a, b *layers.Node) (bool, error) {
	if a.Size > maxSetting {
		return false, nil
	}
	x, err := content(a)
	if err != nil {
		return false, err
	}
	y, err := content(b)
	return bytes.Equal(x, y), err
}

func content(n *layers.Node) ([]byte, error) {
	r, err := n.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var buf bytes.Buffer
	_, err = buf.ReadFrom(r)
	return buf.Bytes(), err
}
