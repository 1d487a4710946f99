package iso

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/imagetypes/grub"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
	"github.com/imgbuild/imgbuild/rootfs/scripts"
)

// medium is a live ISO under way.
type medium struct {
	*live
	dir    string // for temporary files
	remove func() // removes dir
	log    *slog.Logger
}

// content is the directory that becomes the medium.
func (m *medium) content() string { return filepath.Join(m.dir, "medium") }

// The files of the medium, as KIWI names them.
const (
	systemDir  = "LiveOS"
	systemFile = systemDir + "/squashfs.img"
	idFile     = "boot/mbrid"
	xenFile    = "xen.gz" // beside kernel and initial RAM disk
)

// prepare makes all of the medium but the system, and returns the root tree as dracut and the description's script leave it.
func (m *medium) prepare(ctx context.Context, r *image.Request) (*layers.Tree, error) {
	edit := layers.NewTree().Edit(layers.TimespecOf(m.ids.Epoch))
	if err := m.addArchives(ctx, edit, r.Tree); err != nil { // first: what is wrong in them is told before any work
		return nil, err
	}
	boot, err := m.bootFiles(ctx, edit, r.Tree)
	if err != nil {
		return nil, fmt.Errorf("writing the boot files: %w", err)
	}
	if m.startsByEFI() { // too small a partition is told before dracut has worked for a minute
		files, err := espTree(boot, m.ids.Epoch)
		if err != nil {
			return nil, err
		}
		if _, err := m.espSize(files); err != nil {
			return nil, err
		}
	}
	if _, err := layers.WriteDir(ctx, m.content(), boot, layers.DirOptions{}); err != nil {
		return nil, fmt.Errorf("writing the boot files: %w", err)
	}
	tree, err := m.makeInitrd(ctx, r)
	if err != nil {
		return nil, err
	}
	name := filepath.Join(m.content(), m.loaderDir(), "initrd")
	if err := os.Rename(filepath.Join(m.dir, "initrd", "initrd"), name); err != nil {
		return nil, fmt.Errorf("reading what dracut has made: %w", err)
	}
	if err := os.Chmod(name, 0o644); err != nil {
		return nil, err
	}
	return m.editBootConfig(ctx, r, tree)
}

// bootFiles adds to the description's files what else lies on the medium beside the system and the initial RAM disk.
func (m *medium) bootFiles(ctx context.Context, edit *layers.Editor, tree *layers.Tree) (*layers.Tree, error) {
	for _, dir := range []string{systemDir, m.loaderDir()} {
		if err := edit.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	for _, file := range []struct{ from, to string }{{m.kernel.Vmlinuz, "linux"}, {m.hypervisor, xenFile}} {
		if file.from == "" {
			continue
		}
		_, node, err := tree.Resolve(file.from)
		if err != nil {
			return nil, err
		}
		copied := *node
		if err := edit.Put(path.Join(m.loaderDir(), file.to), &copied); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{idFile, "boot/" + m.id} {
		if err := edit.WriteFile(name, []byte(m.id), 0o644); err != nil {
			return nil, err
		}
	}
	steps := []func(context.Context, *layers.Editor, *layers.Tree) error{m.addMenu, m.addBIOS, m.addEFI}
	for _, step := range steps {
		if err := step(ctx, edit, tree); err != nil {
			return nil, err
		}
	}
	return edit.Tree(), nil
}

// addArchives puts the content of the description's archives cdroot*.tar* and config-cdroot.tar* onto the medium.
func (m *medium) addArchives(ctx context.Context, edit *layers.Editor, tree *layers.Tree) error {
	_, dir, err := tree.Resolve(scripts.ImageDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	source := files.Source{FS: tree.FS(scripts.ImageDir)}
	for _, name := range dir.Names() {
		if ok, _ := path.Match("cdroot*.tar*", strings.TrimPrefix(name, "config-")); !ok {
			continue
		}
		archive, err := source.ReadArchive(ctx, name, m.dir)
		if err != nil {
			return err
		}
		if err := files.Graft(edit, archive, ".", files.GraftOptions{}); err != nil {
			return fmt.Errorf("putting %s onto the medium: %w", name, err)
		}
	}
	return nil
}

// addMenu writes GRUB's menu, and the modules that it loads.
func (m *medium) addMenu(_ context.Context, edit *layers.Editor, tree *layers.Tree) error {
	for _, modules := range m.loaders.Modules() {
		if err := modules.Install(edit, tree, m.grubDir); err != nil {
			return err
		}
	}
	config := grub.Settings(m.title, m.typ)
	config.Device = m.device()
	if m.theme != "" {
		theme, err := grub.InstallTheme(edit, tree, m.grubDir, m.theme)
		var missing *grub.ThemeError
		switch {
		case errors.As(err, &missing):
			m.log.Warn("bootloader-theme has no effect: " + missing.Error())
		case err != nil:
			return err
		}
		config.Theme = theme
	}
	hypervisor := ""
	if m.hypervisor != "" {
		hypervisor = path.Join("/", m.loaderDir(), xenFile)
	}
	// Where another GRUB looks for the menu of an ISO image that is a file.
	if err := edit.WriteFile(m.grubDir+"/loopback.cfg", []byte("source /"+m.grubDir+"/grub.cfg\n"), 0o644); err != nil {
		return err
	}
	if m.template != "" {
		text, err := m.fillTemplate(config, m.grubDir)
		if err != nil {
			return err
		}
		return edit.WriteFile(m.grubDir+"/grub.cfg", []byte(text), 0o644)
	}
	kernel := grub.Kernel{Version: m.kernel.Version, Image: "/" + m.loaderDir() + "/linux", Initrd: "/" + m.loaderDir() + "/initrd"}
	return edit.WriteFile(m.grubDir+"/grub.cfg", []byte(findImage+config.Menu(m.menu(kernel, hypervisor, tree))+hardDisk), 0o644)
}

// coreImage makes a core image that finds the menu.
func (m *medium) coreImage(ctx context.Context, modules *grub.Modules, format string) ([]byte, error) {
	dir, err := modules.Extract(ctx, m.dir)
	if err != nil {
		return nil, err
	}
	prefix := "/" + m.grubDir
	return grub.MakeImage(ctx, grub.ImageSpec{
		Platform: modules.Platform, Format: format, Modules: dir, Prefix: prefix, Config: grub.Early(m.device(), prefix),
		Names: append(grub.CoreModules(modules.Platform), "iso9660"),
	}, m.dir)
}

// elTorito is what a BIOS starts from a CD, and the boot sector of a stick starts.
func (m *medium) elTorito() string { return m.loaderDir() + "/eltorito.img" }

func (m *medium) addBIOS(ctx context.Context, edit *layers.Editor, _ *layers.Tree) error {
	if m.loaders.BIOS == nil {
		return nil
	}
	core, err := m.coreImage(ctx, m.loaders.BIOS, grub.FormatElTorito)
	if err != nil {
		return err
	}
	return edit.WriteFile(m.elTorito(), core, 0o644)
}

// startsByEFI reports whether UEFI starts the medium.
func (m *medium) startsByEFI() bool { return m.loaders.EFI != nil || m.loaders.Signed != nil }

// addEFI puts what UEFI starts into /EFI, whose copy becomes an EFI system partition.
func (m *medium) addEFI(ctx context.Context, edit *layers.Editor, tree *layers.Tree) error {
	if !m.startsByEFI() {
		return nil
	}
	_, bootFile, err := grub.EFIPlatform(m.arch)
	if err != nil {
		return err
	}
	if m.loaders.Signed != nil {
		return m.loaders.Signed.Install(edit, tree, bootFile, m.osID, []byte(grub.Stub(m.device(), "/"+m.grubDir)))
	}
	core, err := m.coreImage(ctx, m.loaders.EFI, "")
	if err != nil {
		return err
	}
	name := grub.OnFAT(edit, grub.EFIDir)
	if err := edit.MkdirAll(name, 0o755); err != nil {
		return err
	}
	return edit.WriteFile(grub.OnFAT(edit, name+"/"+bootFile), core, 0o644)
}

// insideMedium is where the script for the boot configuration finds the medium's files.
const insideMedium = "/run/imgbuild/medium"

// editBootConfig runs the description's script that changes the boot files of the medium, if it has one.
func (m *medium) editBootConfig(ctx context.Context, r *image.Request, tree *layers.Tree) (*layers.Tree, error) {
	if !scripts.Has(tree, scripts.EditBootConfig) {
		return tree, nil
	}
	err := scripts.Run(ctx, scripts.EditBootConfig, scripts.Options{
		Tree: tree, Variables: r.Description.ProfileVariables(), Workdir: m.dir, Progress: r.Progress, Log: r.Log,
		Outside: true, Args: []string{"iso:" + insideMedium, "1"}, Binds: []sandbox.Bind{{Source: m.content(), Target: insideMedium}},
		Run: func(ctx context.Context, spec sandbox.Spec) error {
			changed, err := r.Runner.RunOutside(ctx, tree, spec)
			if err == nil {
				tree = changed
			}
			return err
		},
	})
	return tree, err
}

// setTimes gives all files of a directory the same time.
func setTimes(dir string, when time.Time) error {
	spec := unix.NsecToTimespec(when.UnixNano())
	return filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{spec, spec}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &fs.PathError{Op: "setting the time of", Path: name, Err: err}
		}
		return nil
	})
}
