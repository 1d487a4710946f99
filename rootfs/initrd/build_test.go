package initrd

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// TestCommands looks which tool would make an initial RAM disk, and how.
func TestCommands(t *testing.T) {
	for _, test := range []struct {
		name  string
		files []string
		want  string
	}{
		{"Debian", []string{"boot/vmlinuz-6.1", "lib/modules/6.1/x", "usr/sbin/mkinitramfs", "usr/sbin/update-initramfs"}, "update-initramfs -c -k 6.1"},
		{"Debian, again", []string{"boot/vmlinuz-6.1", "boot/initrd.img-6.1", "var/lib/initramfs-tools/6.1", "lib/modules/6.1/x", "usr/sbin/mkinitramfs"}, "update-initramfs -u -k 6.1"},
		{"Fedora", []string{"lib/modules/6.8/vmlinuz", "usr/bin/dracut"}, "dracut --quiet --force --no-hostonly --no-hostonly-cmdline --reproducible /boot/initramfs-6.8.img 6.8"},
		{"SUSE", []string{"lib/modules/6.4/vmlinuz", "usr/bin/dracut", "usr/bin/zstd", "usr/lib/rpm/suse/x"}, "dracut --quiet --force --no-hostonly --no-hostonly-cmdline --reproducible --compress zstd -3 -T0 -q /boot/initrd-6.4 6.4"},
		{"Arch", []string{"lib/modules/6.9.1-arch1-1/vmlinuz", "usr/bin/mkinitcpio"}, "mkinitcpio --kernel 6.9.1-arch1-1 --generate /boot/initramfs-6.9.1-arch1-1.img --skiphooks autodetect"},
		{"Alpine", []string{"boot/vmlinuz-virt", "lib/modules/6.6.31-0-virt/x", "sbin/mkinitfs"}, "mkinitfs -o /boot/initramfs-virt 6.6.31-0-virt"},
	} {
		t.Run(test.name, func(t *testing.T) {
			tree := newTree(t, test.files, nil)
			kernels := FindKernels(tree)
			if len(kernels) != 1 {
				t.Fatalf("kernels %+v", kernels)
			}
			var got string
			err := Build(t.Context(), kernels[0], Options{Tree: tree, Progress: progress.Discard, Log: slog.New(slog.DiscardHandler), Run: func(_ context.Context, spec sandbox.Spec) error {
				got = strings.Join(spec.Args, " ")
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if err := Build(t.Context(), Kernel{Version: "6.1"}, Options{Tree: layers.NewTree()}); err == nil || !strings.Contains(err.Error(), "initramfs-tools") {
		t.Errorf("error %v", err)
	}
}

func TestWantDrivers(t *testing.T) {
	base := []string{
		"boot/vmlinuz-6.1", "lib/modules/6.1/kernel/drivers/net/e1000/e1000.ko.xz", "lib/modules/6.1/kernel/drivers/net/dummy.ko", "lib/modules/6.1/kernel/drivers/scsi/virtio_scsi.ko",
		"lib/modules/6.1/kernel/fs/nfs/nfs.ko.zst", "lib/modules/6.1/kernel/crypto/aes-generic.ko",
	}
	drivers := []string{"drivers/net/*", "drivers/scsi/virtio_scsi.ko", "fs/nfs/nfs.ko", "aes_generic", "drivers/gone/*", "a[b"}
	for tool, want := range map[string][2]string{
		"usr/bin/dracut":       {dracutDrivers, "add_drivers+=\" aes_generic dummy e1000 nfs virtio_scsi \"\n"},
		"usr/sbin/mkinitramfs": {initramfsModules, "aes_generic\ndummy\ne1000\nnfs\nvirtio_scsi\n"},
		"usr/bin/mkinitcpio":   {mkinitcpioConf, "MODULES+=(aes_generic dummy e1000 nfs virtio_scsi)\n"},
	} {
		edit := newTree(t, append(base, tool), nil).Edit(layers.Timespec{})
		for range 2 { // the second time changes nothing
			notes, err := WantDrivers(edit, drivers)
			if err != nil || len(notes) != 2 || !strings.Contains(notes[0], "drivers/gone") {
				t.Errorf("%s: %v, %v", tool, notes, err)
			}
		}
		data, err := edit.ReadFile(want[0], 1<<10)
		if diff := cmp.Diff(want[1], string(data)); diff != "" || err != nil {
			t.Errorf("%s: %v %s", tool, err, diff)
		}
	}
	edit := newTree(t, base, nil).Edit(layers.Timespec{})
	if notes, err := WantDrivers(edit, drivers); err != nil || len(notes) != 1 || !strings.Contains(notes[0], "initramfs-tools") {
		t.Errorf("%v, %v", notes, err)
	}
}
