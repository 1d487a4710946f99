package disk

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/imagetypes/grub"
	"github.com/imgbuild/imgbuild/internal/partition"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/initrd"
	"github.com/imgbuild/imgbuild/rootfs/selinux"
)

// maxText bounds configuration files that are read from the tree, in bytes.
const maxText = 1 << 20

// bootFiles puts into the tree what ties it to this disk: fstab, GRUB's files, KIWI's notes about partitions.
func (d *design) bootFiles(tree *layers.Tree, log *slog.Logger) (*layers.Tree, error) {
	edit := tree.Edit(layers.TimespecOf(d.ids.Epoch))
	for _, v := range d.volumes {
		if v.Mountpoint == "" || v.Mountpoint == "." {
			continue
		}
		if err := edit.MkdirAll(v.Mountpoint, 0o755); err != nil {
			return nil, fmt.Errorf("making the mount point /%s: %w", v.Mountpoint, err)
		}
	}
	if err := d.makeSubvolumes(edit); err != nil {
		return nil, err
	}
	steps := []func(*layers.Editor, *slog.Logger) error{d.writeFstab, d.writeNotes}
	switch {
	case d.systemd:
		steps = append(steps, d.writeSystemdBoot)
	case d.bootloader:
		steps = append(steps, d.collectKernels, d.writeGrubFiles, d.writeGrubDefaults)
	}
	for _, step := range steps {
		if err := step(edit, log); err != nil {
			return nil, err
		}
	}
	if policy := cmp.Or(d.typ.SELinuxPolicy, "targeted"); selinux.Has(tree, policy) {
		if err := selinux.Label(edit, policy); err != nil {
			return nil, err
		}
	}
	return edit.Tree(), nil
}

// fstab returns the lines for the volumes: parents before what is mounted in them, swap last.
func (d *design) fstab() string {
	var mounts []*volume
	var b strings.Builder
	for _, v := range d.volumes {
		if v.Mountpoint != "" {
			mounts = append(mounts, v)
		}
	}
	depth := func(v *volume) int {
		if v.Mountpoint == "." {
			return 0
		}
		return 1 + strings.Count(v.Mountpoint, "/")
	}
	slices.SortStableFunc(mounts, func(a, b *volume) int { return depth(a) - depth(b) })
	for _, v := range mounts {
		at := "/"
		if v.Mountpoint != "." {
			at += escapeBlanks(v.Mountpoint)
		}
		kind := v.FS
		if v.isFAT() {
			kind = "vfat"
		}
		fmt.Fprintf(&b, "%s %s %s %s 0 %d\n", d.persistent(v), at, kind, v.MountOptions, v.Pass)
		for _, s := range v.Btrfs.Subvolumes {
			fmt.Fprintf(&b, "%s /%s btrfs %s,subvol=%s 0 0\n", d.persistent(v), escapeBlanks(s.Path), v.SubvolumeOptions, escapeBlanks(s.Name))
		}
		if name := v.Btrfs.SnapshotsName(); name != "" {
			fmt.Fprintf(&b, "%s /.snapshots btrfs %s,subvol=%s 0 0\n", d.persistent(v), v.SubvolumeOptions, escapeBlanks(name))
		}
	}
	for _, v := range d.volumes {
		if v.FS == fsSwap {
			fmt.Fprintf(&b, "%s swap swap %s 0 0\n", d.persistent(v), v.MountOptions)
		}
	}
	return b.String()
}

// escapeBlanks writes a path as fstab has it.
func escapeBlanks(name string) string { return strings.ReplaceAll(name, " ", `\040`) }

// writeFstab writes /etc/fstab and appends /etc/fstab.append, which descriptions may bring and which is not needed afterwards.
func (d *design) writeFstab(edit *layers.Editor, _ *slog.Logger) error {
	const name, extra = fstabFile, "etc/fstab.append"
	text := d.fstab()
	more, err := edit.ReadFile(extra, maxText)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		text += string(more)
		if len(more) > 0 && more[len(more)-1] != '\n' {
			text += "\n"
		}
		if err := edit.Remove(extra); err != nil {
			return err
		}
	}
	return edit.WriteFile(name, []byte(text), 0o644)
}

// writeNotes writes the files in which KIWI notes the disk's identifiers for programs of the machine.
func (d *design) writeNotes(edit *layers.Editor, _ *slog.Logger) error {
	var ids []string
	for _, v := range d.volumes {
		ids = append(ids, fmt.Sprintf("%s=\"%d\"\n", v.ID, v.Number))
	}
	slices.Sort(ids)
	for name, text := range map[string]string{
		"boot/mbrid":         fmt.Sprintf("0x%08x", d.signature),
		"config.partids":     strings.Join(ids, ""),
		"config.bootoptions": d.kernelCmdline() + "\n",
	} {
		if err := edit.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if d.device().UUID != "" {
		return nil
	}
	return edit.WriteFile(d.markerFile(), []byte(fmt.Sprintf("0x%08x\n", d.signature)), 0o644)
}

// markerFile is a file that tells the file system with /boot from all others.
func (d *design) markerFile() string { return fmt.Sprintf("boot/0x%08x", d.signature) }

// collectKernels puts kernels and initrds that lie elsewhere into /boot, where GRUB can read them also if /boot has its own partition.
func (d *design) collectKernels(edit *layers.Editor, _ *slog.Logger) error {
	for i := range d.kernels {
		k := &d.kernels[i]
		for _, file := range []struct {
			path *string
			name string
		}{{&k.Vmlinuz, "vmlinuz-" + k.Version}, {&k.Initrd, "initrd.img-" + k.Version}} {
			if *file.path == "" {
				continue
			}
			resolved, node, err := edit.Resolve(*file.path)
			if err != nil {
				return fmt.Errorf("reading the kernel %s: %w", k.Version, err)
			}
			if strings.HasPrefix(resolved, "boot/") {
				*file.path = resolved
				continue
			}
			*file.path = "boot/" + file.name
			copied := *node
			if err := edit.Put(*file.path, &copied); err != nil {
				return fmt.Errorf("putting the kernel %s into /boot: %w", k.Version, err)
			}
		}
	}
	return nil
}

// writeGrubFiles writes grub.cfg, the environment block and the modules.
func (d *design) writeGrubFiles(edit *layers.Editor, log *slog.Logger) error {
	for _, m := range d.loaders.Modules() {
		if err := m.Install(edit, edit, d.grubDir); err != nil {
			return err
		}
	}
	if err := d.installTheme(edit, log); err != nil {
		return err
	}
	c := d.grubConfig()
	c.Device, c.Prefix, c.Cmdline = d.device(), d.onDevice(d.grubDir), d.kernelCmdline()
	for _, k := range slices.Backward(d.kernels) {
		c.Kernels = append(c.Kernels, d.grubKernel(k))
	}
	if d.host != nil {
		c.Hypervisor, _ = d.hypervisor(edit)
	}
	if err := edit.WriteFile(path.Join(d.grubDir, "grub.cfg"), []byte(c.String()), 0o600); err != nil {
		return err
	}
	return edit.WriteFile(path.Join(d.grubDir, "grubenv"), grub.Environment(), 0o644)
}

// grubKernel is a kernel as GRUB sees it.
func (d *design) grubKernel(k initrd.Kernel) grub.Kernel {
	kernel := grub.Kernel{Version: k.Version, Image: d.onDevice(k.Vmlinuz)}
	if k.Initrd != "" {
		kernel.Initrd = d.onDevice(k.Initrd)
	}
	return kernel
}

// installTheme puts the description's theme where GRUB finds it. The disk boots without one too.
func (d *design) installTheme(edit *layers.Editor, log *slog.Logger) error {
	if d.themeName == "" {
		return nil
	}
	var err error
	d.theme, err = grub.InstallTheme(edit, edit, d.grubDir, d.themeName)
	var missing *grub.ThemeError
	if errors.As(err, &missing) {
		log.Warn("bootloader-theme has no effect: " + missing.Error())
		return nil
	}
	return err
}

// device is where GRUB finds /boot.
func (d *design) device() grub.Device {
	v := bootVolume(d.volumes)
	if v.FS == "squashfs" { // which has no UUID
		return grub.Device{File: d.onDevice(d.markerFile())}
	}
	device := grub.Device{UUID: v.UUID}
	if v.Clones > 0 {
		scheme := map[partition.Scheme]string{partition.GPT: "gpt", partition.MBR: "msdos"}[d.scheme]
		device.Hint = fmt.Sprintf("hd0,%s%d", scheme, v.Number)
	}
	return device
}

// onDevice turns a path in the tree, below boot, into the path that GRUB sees on the device.
func (d *design) onDevice(name string) string {
	v := bootVolume(d.volumes)
	if v.Mountpoint == "boot" {
		name = strings.TrimPrefix(name, "boot/")
	}
	// GRUB names subvolumes from the top of the file system, whatever the default one is.
	return "/" + path.Join(v.Btrfs.Tree(), name)
}

// kernelCmdline is the command line of every kernel of the disk.
func (d *design) kernelCmdline() string {
	v := root(d.volumes)
	return d.cmdline(v, v.isPacked() || v.Btrfs.ReadOnly)
}

// writeGrubDefaults sets what the distribution's own tools write into grub.cfg when they make it anew on the machine.
func (d *design) writeGrubDefaults(edit *layers.Editor, _ *slog.Logger) error {
	const name = "etc/default/grub"
	old, err := edit.ReadFile(name, maxText)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c := d.grubConfig()
	set := map[string]string{
		"GRUB_TIMEOUT":               fmt.Sprint(c.Timeout),
		"GRUB_TIMEOUT_STYLE":         c.Style,
		"GRUB_CMDLINE_LINUX_DEFAULT": withoutRoot(d.kernelCmdline()),
		"GRUB_DISTRIBUTOR":           d.title,
		"GRUB_TERMINAL_OUTPUT":       strings.Join(c.Output, " "),
		"GRUB_TERMINAL_INPUT":        strings.Join(c.Input, " "),
	}
	if set["GRUB_TIMEOUT_STYLE"] == "" {
		set["GRUB_TIMEOUT_STYLE"] = "menu"
	}
	if c.GfxMode != "" {
		set["GRUB_GFXMODE"] = c.GfxMode
	}
	if d.theme.File != "" {
		set["GRUB_THEME"] = "/" + path.Join(d.grubDir, d.theme.File)
	}
	if d.theme.Background != "" {
		set["GRUB_BACKGROUND"] = "/" + path.Join(d.grubDir, d.theme.Background)
	}
	if slices.Contains(c.Output, "serial") {
		set["GRUB_SERIAL_COMMAND"] = c.Serial
	}
	if d.host != nil {
		h, always := d.hypervisor(edit)
		set["GRUB_CMDLINE_XEN"] = always
		set["GRUB_CMDLINE_LINUX_XEN_REPLACE_DEFAULT"] = withoutRoot(h.KernelCmdline)
	}
	switch d.typ.DevicePersistency {
	case "by-label":
		set["GRUB_DISABLE_LINUX_UUID"] = "true"
		set["GRUB_CMDLINE_LINUX"] = "root=" + d.persistent(root(d.volumes))
		set["GRUB_ENABLE_LINUX_LABEL"] = "true"
	case "by-partuuid":
		set["GRUB_DISABLE_LINUX_UUID"] = "true"
		set["GRUB_DISABLE_LINUX_PARTUUID"] = "false"
	}
	return edit.WriteFile(name, []byte(setVariables(string(old), set)), 0o644)
}

// setVariables replaces assignments in a shell file, where they stand, and appends the missing ones sorted by name.
func setVariables(old string, set map[string]string) string {
	var b strings.Builder
	done := map[string]bool{}
	for line := range strings.Lines(old) {
		key, _, found := strings.Cut(strings.TrimSpace(line), "=")
		value, ours := set[key]
		if !found || !ours {
			b.WriteString(strings.TrimSuffix(line, "\n") + "\n")
			continue
		}
		if !done[key] {
			fmt.Fprintf(&b, "%s=%s\n", key, shellQuote(value))
		}
		done[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(set)) {
		if !done[key] {
			fmt.Fprintf(&b, "%s=%s\n", key, shellQuote(set[key]))
		}
	}
	return b.String()
}

// shellQuote writes a value in double quotes, as these files have them.
func shellQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(s) + `"`
}
