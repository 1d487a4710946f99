package disk

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/filesystem"
	"github.com/imgbuild/imgbuild/layers"
)

// btrfs is how the description wants a btrfs root divided.
func (s *settings) btrfs() filesystem.Btrfs {
	t := s.typ
	b := filesystem.Btrfs{
		Snapshot: t.BtrfsRootIsSnapshot, ReadOnly: t.BtrfsRootIsSnapshot && t.BtrfsRootIsReadonlySnapshot, Quota: t.BtrfsQuotaGroups,
		KeepDefault: !t.BtrfsSetDefaultVolume.Or(true),
	}
	if t.BtrfsRootIsSubvolume.Or(true) {
		b.Root = "@"
	}
	for i := range t.Volumes {
		if v := &t.Volumes[i]; v.Root && v.Name != "" && b.Root != "" {
			b.Root = v.Name
		}
	}
	for i := range t.Volumes {
		if v := &t.Volumes[i]; !v.Root {
			b.Subvolumes = append(b.Subvolumes, subvolume(v, b.Root))
		}
	}
	return b
}

// subvolume is one of the description's volumes. It lies in the root's one, or from the top of the file system in the parent that it names.
func subvolume(v *description.Volume, root string) filesystem.Subvolume {
	at := strings.Trim(path.Clean("/"+v.RealPath), "/")
	quota := v.Quota
	if n := len(quota); n > 0 && quota[n-1] >= '0' && quota[n-1] <= '9' {
		quota += "M"
	}
	return filesystem.Subvolume{Name: strings.TrimPrefix(path.Join(cmp.Or(v.Parent, root), at), "/"), Path: at, NoCOW: v.NoCOW, Quota: quota}
}

// makeSubvolumes makes the directories that subvolumes are mounted at, and tells snapper of the root's snapshot.
func (d *design) makeSubvolumes(edit *layers.Editor) error {
	b := root(d.volumes).Btrfs
	for _, s := range b.Subvolumes {
		if err := edit.MkdirAll(s.Path, 0o755); err != nil {
			return fmt.Errorf("making the directory of the subvolume %s: %w", s.Name, err)
		}
	}
	if !b.Snapshot {
		return nil
	}
	if err := edit.MkdirAll(".snapshots", 0o750); err != nil {
		return fmt.Errorf("making the directory of the snapshots: %w", err)
	}
	return configureSnapper(edit, b.Quota)
}

// configureSnapper writes snapper's configuration of the root from the template that its package has, if there is one.
func configureSnapper(edit *layers.Editor, quota bool) error {
	for _, dir := range []string{"usr/share/snapper/config-templates", "etc/snapper/config-templates"} {
		template, err := edit.ReadFile(path.Join(dir, "default"), maxText)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		set := map[string]string{"SUBVOLUME": "/", "FSTYPE": "btrfs"}
		if quota {
			set["QGROUP"] = "1/0"
		}
		if err := edit.MkdirAll("etc/snapper/configs", 0o755); err != nil {
			return err
		}
		if err := edit.WriteFile("etc/snapper/configs/root", []byte(setVariables(string(template), set)), 0o640); err != nil {
			return err
		}
		return snapperConfigs(edit)
	}
	return nil
}

// snapperConfigs lists the root in the file that has the names of snapper's configurations.
func snapperConfigs(edit *layers.Editor) error {
	name := "etc/sysconfig/snapper"
	if _, _, err := edit.Resolve("etc/default/snapper"); err == nil {
		name = "etc/default/snapper"
	}
	text, err := edit.ReadFile(name, maxText)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := edit.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	return edit.WriteFile(name, []byte(setVariables(string(text), map[string]string{"SNAPPER_CONFIGS": "root"})), 0o644)
}
