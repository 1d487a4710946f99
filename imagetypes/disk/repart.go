package disk

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/initrd"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// repartModule is KIWI's module for dracut that makes the root partition and its file system as large as the disk, whenever the machine starts. It reads
// profileFile and the numbers of partitions, which lie in the initial RAM disk.
const (
	repartModule = "kiwi-repart"
	profileFile  = ".profile"
)

// grows reports whether the root is to grow with the disk, and the root tree has what it takes.
func grows(t *description.Type, tree *layers.Tree) bool {
	fixed := t.Filesystem == "squashfs" || t.Filesystem == "erofs" || t.SparePart > 0 && t.SparePartIsLast
	return t.OEM.Resize.Or(true) && !fixed && t.InitrdSystem != "none" && initrd.Tool(tree) == "dracut" && initrd.HasModule(tree, repartModule)
}

// warnResize tells who has asked for it that the root will not grow.
func (s *settings) warnResize(tree *layers.Tree, log *slog.Logger) {
	if s.typ.OEM.Resize == description.True && !grows(s.typ, tree) {
		log.Warn("oem-resize has no effect: that takes dracut and its module "+repartModule+" in the root tree, and a file system that can grow",
			"remedy", "add the packages dracut and kiwi-dracut-oem-repart (Debian) or dracut-kiwi-oem-repart (openSUSE, Fedora) to the description")
	}
}

// repartInitrds makes the initial RAM disks anew, with the module and what it reads.
func (h *hooks) repartInitrds(ctx context.Context, d *design) error {
	if !grows(d.typ, h.tree) {
		return nil
	}
	if err := h.edit(func(edit *layers.Editor) error { return d.writeProfile(edit, h.Description) }); err != nil {
		return err
	}
	// The module is written for bash, and dracut of Debian takes dash unless it is left out.
	add, omit := repartModule, ""
	if initrd.HasModule(h.tree, "bash") {
		add, omit = add+" bash", "dash"
	}
	if !d.typ.OEM.MultipathScan.Or(false) {
		omit = strings.TrimSpace(omit + " multipath")
	}
	options := []string{"--add", add, "--install", "/" + profileFile + " /config.partids"}
	if omit != "" {
		options = append(options, "--omit", omit)
	}
	for _, k := range d.kernels {
		if k.Initrd == "" || k.Modules == "" {
			continue
		}
		spec := sandbox.Spec{Args: initrd.Dracut(k, h.tree, "/"+k.Initrd, options...), NoNetwork: true, Log: h.Log}
		if h.Repro.Fixed {
			spec.Env = []string{repro.EpochVariable + "=" + strconv.FormatInt(h.Repro.Epoch.Unix(), 10)}
		}
		task := h.Progress.Start("making the initial RAM disk that lets the root grow", 0, progress.Items)
		tree, err := h.Runner.Run(ctx, h.tree, spec)
		task.Done(err)
		if err != nil {
			return fmt.Errorf("making the initial RAM disk of kernel %s: %w", k.Version, err)
		}
		h.tree = tree
	}
	if d.systemd {
		return h.edit(d.copyKernels)
	}
	return nil
}

// writeProfile notes the root's identifier for oem-resize-once: growing changes it.
func (d *design) writeProfile(edit *layers.Editor, image *description.Image) error {
	text, err := edit.ReadFile(profileFile, maxText)
	if err != nil {
		text = image.ProfileFile()
	}
	const variable = "kiwi_rootpartuuid="
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, variable) {
			b.WriteString(line)
		}
	}
	fmt.Fprintf(&b, "%s'%s'\n", variable, root(d.volumes).PartUUID)
	return edit.WriteFile(profileFile, []byte(b.String()), 0o644)
}
