// Package guest makes guests of Xen of the image types disk, file system and kernel-initrd-system: beside the image it leaves a configuration for xl and, where the
// host loads them, the kernel and its initial RAM disk.
package guest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/imgbuild/imgbuild/imagetypes/grub"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/imagetypes/xen"
	"github.com/imgbuild/imgbuild/layers"
)

// Builder builds a guest. It implements [image.Builder], [image.Preparing] and [image.Observing].
type Builder struct {
	// Image builds the guest's image.
	Image image.Builder
}

// The names of results in kiwi.result.json that no other builder has.
const (
	keyKernel = "kernel"
	keyInitrd = "initrd"
	keyPVGrub = "xen_pvgrub"
)

// Check refuses what can't be built, and what no host of Xen could start.
func (b Builder) Check(ctx context.Context, r *image.Request) error {
	if err := b.Image.Check(ctx, r); err != nil {
		return err
	}
	_, err := newPlan(r)
	return err
}

// Plan says what the image is and how the guest starts.
func (b Builder) Plan(ctx context.Context, r *image.Request) (string, error) {
	text, err := b.Image.Plan(ctx, r)
	if err != nil {
		return "", err
	}
	p, err := newPlan(r)
	if err != nil {
		return "", err
	}
	return text + p.String(), nil
}

// Observes implements [image.Observing].
func (b Builder) Observes(r *image.Request) bool {
	observing, ok := b.Image.(image.Observing)
	return ok && observing.Observes(r)
}

// Prepare implements [image.Preparing].
func (b Builder) Prepare(ctx context.Context, r *image.Request) (*image.Request, image.Builder, error) {
	preparing, ok := b.Image.(image.Preparing)
	if !ok {
		return r, b, nil
	}
	prepared, builder, err := preparing.Prepare(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	return prepared, Builder{builder}, nil
}

// Build builds the image, and writes BaseName.xenconfig with the files that it names beside it.
func (b Builder) Build(ctx context.Context, r *image.Request) ([]image.Artifact, error) {
	r, err := r.Filled()
	if err != nil {
		return nil, err
	}
	p, err := newPlan(r)
	if err != nil {
		return nil, err
	}
	for _, note := range p.notes {
		r.Log.Warn("guest of Xen: " + note)
	}
	withMenu := *r
	if withMenu.Tree, err = p.addMenu(r.Tree); err != nil {
		return nil, fmt.Errorf("writing the boot menu: %w", err)
	}
	results, err := b.Image.Build(ctx, &withMenu)
	if err != nil {
		return nil, err
	}
	more, err := p.write(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("configuring the guest of Xen: %w", err)
	}
	return append(results, more...), nil
}

// write leaves what belongs to the guest beside its image.
func (p *plan) write(ctx context.Context, r *image.Request) ([]image.Artifact, error) {
	var results []image.Artifact
	add := func(key, name string) {
		results = append(results, image.Artifact{Key: key, File: name, UseForBundle: true})
	}
	config := p.configFile()
	if err := os.WriteFile(filepath.Join(r.Dir, config), []byte(p.config.String()), 0o644); err != nil {
		return nil, err
	}
	add(image.KeyMachineSettings, config)
	for _, file := range []struct{ key, from, name string }{{keyKernel, p.kernelFrom, p.config.Kernel}, {keyInitrd, p.initrdFrom, p.config.Ramdisk}} {
		if file.from == "" {
			continue
		}
		if err := image.Extract(r.Tree, file.from, filepath.Join(r.Dir, file.name)); err != nil {
			return nil, err
		}
		add(file.key, file.name)
	}
	if p.loader == nil {
		return results, nil
	}
	core, err := p.pvgrub(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(r.Dir, p.config.Kernel), core, 0o644); err != nil {
		return nil, err
	}
	add(keyPVGrub, p.config.Kernel)
	return results, nil
}

// pvgrub makes the GRUB that the host loads as the guest's kernel.
func (p *plan) pvgrub(ctx context.Context, r *image.Request) ([]byte, error) {
	scratch, remove, err := r.Scratch("pvgrub")
	if err != nil {
		return nil, err
	}
	defer remove()
	modules, err := p.loader.Extract(ctx, scratch)
	if err != nil {
		return nil, err
	}
	return grub.MakeImage(ctx, grub.ImageSpec{
		Platform: p.loader.Platform, Modules: modules, Prefix: p.menuDir, Config: grub.Early(p.menuDevice, p.menuDir), Names: grub.CoreModules(p.loader.Platform),
	}, scratch)
}

// addMenu gives a file system that the guest's loader reads GRUB's menu. A disk has one already.
func (p *plan) addMenu(tree *layers.Tree) (*layers.Tree, error) {
	if p.menu == "" {
		return tree, nil
	}
	edit := tree.Edit(layers.TimespecOf(p.request.Repro.Epoch))
	dir := layers.Clean(p.menuDir)
	if err := edit.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := edit.WriteFile(dir+"/grub.cfg", []byte(p.menu), 0o644); err != nil {
		return nil, err
	}
	return edit.Tree(), nil
}

// kindText names a kind of guest for people.
func kindText(kind string) string {
	return map[string]string{xen.PV: "a paravirtual guest", xen.PVH: "a PVH guest", xen.HVM: "a guest with emulated devices"}[kind]
}
