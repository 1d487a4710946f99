// Package iso builds live ISO images, the image type iso: a medium that a PC starts from as a CD or as a USB stick, by BIOS and by UEFI, and whose system runs
// without being installed. The root tree lies in it as a compressed file system that is never changed; changes go to memory, or to a partition of the stick.
//
// The initial RAM disk that finds the medium is made by the root tree's own dracut, with its modules for live systems. Everything else is made from
// files: no device, no mount.
package iso

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem"
	"github.com/imgbuild/imgbuild/imagetypes/grub"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/imagetypes/xen"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/fat"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/initrd"
	"github.com/imgbuild/imgbuild/rootfs/inspect"
)

// Builder builds live ISO images. It implements [image.Builder], [image.Preparing] and [image.Observing].
type Builder struct {
	// ready is the medium whose boot files are made already, nil before Prepare.
	ready *medium
}

// need is who needs what is missing, in errors.
const need = "a live ISO"

// live is what is decided about a live ISO before anything is made.
type live struct {
	*settings
	kernel initrd.Kernel
	// hypervisor is Xen's path in the tree, "" where the system is no host.
	hypervisor string
	modules    []string // dracut's, to be added to the initial RAM disk
	grubDir    string   // GRUB's directory on the medium
	loaders    grub.Loaders
	osID       string
}

// Check refuses what can't be built.
func (Builder) Check(_ context.Context, r *image.Request) error {
	if r.Description == nil {
		return errors.New("building a live ISO: no description given")
	}
	s, err := newSettings(r.Description, r.Repro)
	if err != nil {
		return err
	}
	programs := []string{"xorriso"}
	if s.efi {
		programs = append(programs, fat.Programs()...)
	}
	for _, name := range programs {
		if _, err := command.Find(name); err != nil {
			return err
		}
	}
	for _, spec := range s.specs() {
		if err := filesystem.Check(spec); err != nil {
			return err
		}
	}
	if r.Tree == nil {
		return nil
	}
	_, err = s.inspect(r.Tree, slog.New(slog.DiscardHandler)) // Prepare says what there is to say
	return err
}

// inspect finds kernel, dracut's modules and boot loaders in the tree, and refuses one that can't be started from a medium.
func (s *settings) inspect(tree *layers.Tree, log *slog.Logger) (*live, error) {
	l := &live{settings: s, grubDir: grub.Directory(tree)}
	kernels := initrd.FindKernels(tree)
	if len(kernels) == 0 {
		return nil, image.Placed(s.typ.At("image"), image.NoKernel(need))
	}
	var err error
	if s.typ.XenServer {
		if l.hypervisor, kernels, err = xen.FindHost(s.typ, tree, kernels); err != nil {
			return nil, err
		}
	}
	l.kernel = kernels[len(kernels)-1]
	if l.modules, err = s.dracutModules(tree); err != nil {
		return nil, err
	}
	if err := checkDrivers(tree, l.kernel); err != nil {
		return nil, image.Placed(s.typ.At("image"), err)
	}
	if fields, err := inspect.OSRelease(tree); err == nil {
		l.osID = fields["ID"]
	}
	l.loaders, err = grub.FindLoaders(tree, grub.Wanted{
		Arch: s.arch, BIOS: s.bios, EFI: s.efi, Secure: s.secure, Either: s.either, Image: "ISO", Firmware: s.typ.Firmware,
	}, log)
	if err != nil || len(l.loaders.Modules()) == 0 {
		return l, err
	}
	_, err = grub.FindMkimage()
	return l, err
}

// Plan names what makes the medium.
func (Builder) Plan(_ context.Context, r *image.Request) (string, error) {
	r, err := r.Filled()
	if err != nil {
		return "", err
	}
	s, err := newSettings(r.Description, r.Repro)
	if err != nil {
		return "", err
	}
	l, err := s.inspect(r.Tree, r.Log)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("live ISO: %s.iso, volume %s\n%sthe system: %s before compression\n", r.BaseName, s.volume, l, progress.FormatBytes(r.Tree.Stats().Data)), nil
}

// String describes the medium for people.
func (l *live) String() string {
	text := fmt.Sprintf("boots by: %s\nkernel: %s, with dracut's modules %v\nkernel command line: %s\n", l.loaders, l.kernel.Version, l.modules, l.cmdline())
	if l.hypervisor != "" {
		text += "Xen: /" + l.hypervisor + "\n"
	}
	return text
}

// Observes implements [image.Observing].
func (Builder) Observes(r *image.Request) bool {
	s, err := newSettings(r.Description, r.Repro)
	if err != nil {
		return false
	}
	specs := s.specs()
	return filesystem.Observes(specs[len(specs)-1])
}

// Prepare makes everything that the medium starts with, in a temporary directory: the initial RAM disk by the root tree's dracut, the boot loader, its menu.
func (Builder) Prepare(ctx context.Context, r *image.Request) (*image.Request, image.Builder, error) {
	r, err := r.Filled()
	if err != nil {
		return nil, nil, err
	}
	s, err := newSettings(r.Description, r.Repro)
	if err != nil {
		return nil, nil, err
	}
	l, err := s.inspect(r.Tree, r.Log)
	if err != nil {
		return nil, nil, err
	}
	s.warnOfLetters(r.Log)
	if r.Runner == nil {
		return nil, nil, errors.New("building a live ISO: its initial RAM disk is made by the root tree's dracut, and nothing here can run programs of the root tree")
	}
	dir, remove, err := r.Scratch("iso")
	if err != nil {
		return nil, nil, err
	}
	m := &medium{live: l, dir: dir, remove: remove, log: r.Log}
	tree, err := m.prepare(ctx, r)
	if err != nil {
		remove()
		return nil, nil, fmt.Errorf("building a live ISO: %w", err)
	}
	if r.Repro.Fixed {
		tree = layers.Clamp(tree, layers.TimespecOf(r.Repro.Epoch)) // programs have run in it
	}
	prepared := *r
	prepared.Tree = tree
	return &prepared, Builder{ready: m}, nil
}

// Build writes BaseName.iso.
func (b Builder) Build(ctx context.Context, r *image.Request) ([]image.Artifact, error) {
	if b.ready == nil {
		return nil, errors.New("building a live ISO: it was not prepared")
	}
	defer b.ready.remove()
	r, err := r.Filled()
	if err != nil {
		return nil, err
	}
	name := r.BaseName + ".iso"
	if err := b.ready.build(ctx, r, path.Join(r.Dir, name)); err != nil {
		return nil, fmt.Errorf("building a live ISO: %w", err)
	}
	return []image.Artifact{{Key: image.KeyLiveImage, File: name, UseForBundle: true}}, nil
}
