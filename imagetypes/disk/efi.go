package disk

import (
	"context"
	"fmt"
	"path"

	"github.com/imgbuild/imgbuild/imagetypes/grub"
	"github.com/imgbuild/imgbuild/layers"
)

// espTree adds the boot loader to what the tree already had in /boot/efi. full is the whole root tree.
func (d *design) espTree(ctx context.Context, full, esp *layers.Tree, scratch string) (*layers.Tree, error) {
	if !d.bootloader || d.systemd {
		return esp, nil
	}
	edit := esp.Edit(layers.TimespecOf(d.ids.Epoch))
	platform, bootFile, err := grub.EFIPlatform(d.arch)
	if err != nil {
		return nil, err
	}
	if d.loaders.Signed != nil {
		stub := []byte(grub.Stub(d.device(), d.onDevice(d.grubDir)))
		if err := d.loaders.Signed.Install(edit, full, bootFile, osID(full), stub); err != nil {
			return nil, fmt.Errorf("writing the EFI system partition: %w", err)
		}
		return edit.Tree(), nil
	}
	core, err := d.efiCore(ctx, platform, scratch)
	if err != nil {
		return nil, err
	}
	if err := edit.WriteFile(grub.OnFAT(edit, path.Join(grub.EFIDir, bootFile)), core, 0o644); err != nil {
		return nil, fmt.Errorf("writing the EFI system partition: %w", err)
	}
	return edit.Tree(), nil
}

func (d *design) efiCore(ctx context.Context, platform, scratch string) ([]byte, error) {
	modules, err := d.loaders.EFI.Extract(ctx, scratch)
	if err != nil {
		return nil, err
	}
	return grub.MakeImage(ctx, grub.ImageSpec{
		Platform: platform, Modules: modules, Prefix: d.onDevice(d.grubDir), Config: grub.Early(d.device(), d.onDevice(d.grubDir)), Names: grub.CoreModules(platform),
	}, scratch)
}
