package initrd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strconv"
	"time"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// Options say how to make initial RAM disks.
type Options struct {
	// Run runs a program in the root tree.
	Run func(ctx context.Context, spec sandbox.Spec) error
	// Tree is the root tree as it is now.
	Tree *layers.Tree
	// Epoch is the time that files in the initial RAM disk get at most, if the build is to be reproducible; else zero.
	Epoch time.Time
	// Progress shows the work; Log gets the tool's output where it fails.
	Progress progress.Reporter
	Log      *slog.Logger
}

// ErrNoTool says that a root tree can't make an initial RAM disk.
var ErrNoTool = errors.New("the root tree has neither initramfs-tools, dracut, mkinitcpio nor mkinitfs; add one of these packages to the description")

// Tool returns the name of the program that makes a tree's initial RAM disks, or "" if it has none.
func Tool(tree *layers.Tree) string {
	for _, tool := range []struct{ file, name string }{
		// Debian's dracut brings a stand-in for update-initramfs, so mkinitramfs decides.
		{"usr/sbin/mkinitramfs", "update-initramfs"}, {"usr/bin/dracut", "dracut"}, {"usr/sbin/dracut", "dracut"},
		{"usr/bin/mkinitcpio", "mkinitcpio"}, {"usr/sbin/mkinitfs", "mkinitfs"}, {"sbin/mkinitfs", "mkinitfs"},
	} {
		if isFile(tree, tool.file) {
			return tool.name
		}
	}
	return ""
}

// Build makes the initial RAM disk of a kernel, for any machine and not just for this one. One that is there is made anew.
func Build(ctx context.Context, k Kernel, opts Options) (err error) {
	var args []string
	switch Tool(opts.Tree) {
	case "":
		return fmt.Errorf("making the initial RAM disk of kernel %s: %w", k.Version, ErrNoTool)
	case "dracut":
		args = Dracut(k, opts.Tree, "/"+fileName(k, opts.Tree))
	case "mkinitcpio":
		// Its hook autodetect asks this machine what it has.
		args = []string{"mkinitcpio", "--kernel", k.Version, "--generate", "/" + fileName(k, opts.Tree), "--skiphooks", "autodetect"}
	case "mkinitfs":
		args = []string{"mkinitfs", "-o", "/" + fileName(k, opts.Tree), k.Version}
	default:
		action := "-c"
		if known(opts.Tree, k.Version) {
			action = "-u"
		}
		args = []string{"update-initramfs", action, "-k", k.Version}
	}
	task := opts.Progress.Start("making the initial RAM disk of kernel "+k.Version, 0, progress.Items)
	defer func() { task.Done(err) }()
	// The tools start thousands of programs, which start faster if they have no locale to load.
	spec := sandbox.Spec{Args: args, NoNetwork: true, Log: opts.Log, Env: []string{"LC_ALL=C"}}
	if !opts.Epoch.IsZero() {
		spec.Env = append(spec.Env, "SOURCE_DATE_EPOCH="+strconv.FormatInt(opts.Epoch.Unix(), 10))
	}
	if err := opts.Run(ctx, spec); err != nil {
		return fmt.Errorf("making the initial RAM disk of kernel %s: %w", k.Version, err)
	}
	return nil
}

// known reports whether update-initramfs has made the version's file, and it is as it was made.
func known(tree *layers.Tree, version string) bool {
	_, _, err := tree.Resolve("var/lib/initramfs-tools/" + version)
	return err == nil && isFile(tree, "boot/initrd.img-"+version)
}

// Dracut is dracut's command line for writing a kernel's initial RAM disk into file, with further options. What it would otherwise look up on this
// machine, as in its hostonly mode, is of no use in the image.
func Dracut(k Kernel, tree *layers.Tree, file string, options ...string) []string {
	args := []string{"dracut", "--quiet", "--force", "--no-hostonly", "--no-hostonly-cmdline", "--reproducible"}
	if isFile(tree, "usr/bin/zstd") {
		// A third of gzip's time (dracut compresses with gzip as it comes).
		args = append(args, "--compress", "zstd -3 -T0 -q")
	}
	return append(append(args, options...), file, k.Version)
}

// fileName is where a kernel's initial RAM disk belongs: where one is, or else where the tree's distribution looks for it.
func fileName(k Kernel, tree *layers.Tree) string {
	if k.Initrd != "" {
		return k.Initrd
	}
	if flavor := alpineFlavor(k.Version); path.Base(k.Vmlinuz) == "vmlinuz-"+flavor {
		return "boot/initramfs-" + flavor
	}
	for _, family := range []struct{ sign, name string }{
		{"etc/debian_version", "boot/initrd.img-" + k.Version},
		{"etc/SUSE-brand", "boot/initrd-" + k.Version},
		{"usr/lib/rpm/suse", "boot/initrd-" + k.Version},
	} {
		if _, _, err := tree.Resolve(family.sign); err == nil {
			return family.name
		}
	}
	return "boot/initramfs-" + k.Version + ".img"
}
