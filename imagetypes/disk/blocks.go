package disk

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/imagetypes/grub"
	"github.com/imgbuild/imgbuild/internal/partition"
	"github.com/imgbuild/imgbuild/internal/sparse"
)

// biosBoot is what a BIOS needs: the boot sector's code and GRUB's core image.
type biosBoot struct {
	sector []byte
	core   []byte
	at     int64 // first byte of core on the disk
}

// makeBIOSBoot makes GRUB's core image for a BIOS. It lies in its own partition on a GPT disk, and else between MBR and first partition.
func (d *design) makeBIOSBoot(ctx context.Context, scratch string) (biosBoot, error) {
	if d.loaders.BIOS == nil {
		return biosBoot{}, nil
	}
	modules, err := d.loaders.BIOS.Extract(ctx, scratch)
	if err != nil {
		return biosBoot{}, err
	}
	core, err := grub.MakeImage(ctx, grub.ImageSpec{
		Platform: grub.PlatformBIOS, Modules: modules, Prefix: d.onDevice(d.grubDir), Config: grub.Early(d.device(), d.onDevice(d.grubDir)),
		Names: grub.CoreModules(grub.PlatformBIOS),
	}, scratch)
	if err != nil {
		return biosBoot{}, err
	}
	at, room := d.sectorSize, d.table.Partitions[0].Start-d.sectorSize
	if p, ok := d.table.Named(legacyName); ok && d.scheme == partition.GPT {
		at, room = p.Start, p.Size
	}
	if int64(len(core)) > room {
		return biosBoot{}, fmt.Errorf("GRUB's core image has %d bytes, but there is room for %d", len(core), room)
	}
	image, err := d.loaders.BIOS.ReadImage("boot.img")
	if err != nil {
		return biosBoot{}, err
	}
	sector, core, err := grub.BIOSBoot(image, core, uint64(at/d.sectorSize))
	return biosBoot{sector: sector, core: core, at: at}, err
}

// write puts both onto the disk.
func (b biosBoot) write(w io.WriterAt) error {
	if b.sector == nil {
		return nil
	}
	if _, err := w.WriteAt(b.sector, 0); err != nil {
		return fmt.Errorf("writing the boot sector: %w", err)
	}
	if _, err := w.WriteAt(b.core, b.at); err != nil {
		return fmt.Errorf("writing GRUB's core image: %w", err)
	}
	return nil
}

// Numbers of Linux's swap space: union swap_header in include/linux/swap.h, for pages of 4096 bytes.
const (
	swapPage    = 4096
	swapMagic   = "SWAPSPACE2"
	swapVersion = 1
	swapInfoAt  = 1024
	swapLabel   = 16
)

// writeSwap makes swap space of the volume's size.
func writeSwap(w io.WriterAt, at int64, v *volume) error {
	id, err := hex.DecodeString(strings.ReplaceAll(v.UUID, "-", ""))
	if err != nil || len(id) != 16 {
		return fmt.Errorf("making swap space: %q is not a UUID", v.UUID)
	}
	page := make([]byte, swapPage)
	info := page[swapInfoAt:]
	binary.LittleEndian.PutUint32(info[0:], swapVersion)
	binary.LittleEndian.PutUint32(info[4:], uint32(v.Size/swapPage-1))
	copy(info[12:], id)
	copy(info[28:28+swapLabel], v.Label)
	copy(page[swapPage-len(swapMagic):], swapMagic)
	if _, err := w.WriteAt(page, at); err != nil {
		return fmt.Errorf("making swap space: %w", err)
	}
	return nil
}

// copyFile copies a file to an offset of the disk, which reads as zeros there.
func copyFile(ctx context.Context, w io.WriterAt, at int64, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := sparse.Copy(ctx, w, at, f); err != nil {
		return fmt.Errorf("copying %s to the disk: %w", name, err)
	}
	return nil
}

// byDepth returns the volumes with the deepest mount points first.
func byDepth(volumes []*volume) []*volume {
	sorted := slices.Clone(volumes)
	slices.SortStableFunc(sorted, func(a, b *volume) int { return strings.Count(b.Mountpoint, "/") - strings.Count(a.Mountpoint, "/") })
	return sorted
}
