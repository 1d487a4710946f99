package iso

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/imagetypes/internal/imagetest"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/qemu"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	os.Exit(m.Run())
}

// request asks for a tree as an ISO image, with something to run its programs.
func request(t testing.TB, tree *layers.Tree, attributes, content string) *image.Request {
	t.Helper()
	testenv.NeedRoot(t)
	r := imagetest.Request(t, tree, "iso", attributes, content)
	result, err := rootfs.Overlay(t.Context(), rootfs.Request{
		Tree: r.Tree, Description: r.Description, Phase: rootfs.Create, Dir: filepath.Join(t.TempDir(), "root"), Repro: r.Repro,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Tree, r.Runner, r.Log, r.Progress = result.Tree, result, slog.New(slog.DiscardHandler), progress.Discard
	return r
}

// build builds a request and returns the path of the ISO image and the tree that is in it.
func build(t testing.TB, r *image.Request) (string, *layers.Tree) {
	t.Helper()
	if err := (Builder{}).Check(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	prepared, builder, err := Builder{}.Prepare(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	results, err := builder.Build(t.Context(), prepared)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(r.Dir, results[0].File), prepared.Tree
}

// The machines that a live ISO is started on. Debian's cloud kernel has drivers for virtio alone.
func asCD(file string, firmware qemu.Firmware) qemu.Spec {
	return qemu.Spec{Firmware: firmware, Arguments: []string{
		"-device", "virtio-scsi-pci", "-drive", "file=" + file + ",format=raw,if=none,id=cd,media=cdrom,readonly=on", "-device", "scsi-cd,drive=cd,bootindex=1",
	}}
}

func asDisk(file string, firmware qemu.Firmware) qemu.Spec {
	return qemu.Spec{Firmware: firmware, Disks: []qemu.Disk{{File: file, Format: "raw", Writable: true}}}
}

const (
	console = `kernelcmdline="console=ttyS0 net.ifnames=0"`
	quick   = `<bootloader name="grub2" timeout="1" console="serial"/>`
)

// boot starts a machine, logs in and runs commands, of which each must succeed and print something.
func boot(t *testing.T, spec qemu.Spec, commands ...[2]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	if name := os.Getenv("IMGBUILD_TEST_CONSOLE"); name != "" {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		spec.Console = io.Writer(f)
	}
	begin := time.Now()
	m, err := qemu.Start(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Login(ctx, "root", "linux", 10*time.Minute); err != nil {
		t.Fatal(err)
	}
	t.Logf("logged in after %v", time.Since(begin).Round(100*time.Millisecond))
	for _, c := range commands {
		output, code, err := m.Run(ctx, c[0], 3*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if code != 0 || !strings.Contains(output, c[1]) {
			t.Errorf("%s: exit code %d, output %q lacks %q", c[0], code, output, c[1])
		}
	}
	if err := m.Shutdown(ctx, 3*time.Minute); err != nil {
		t.Error(err)
	}
}

// TestBootCD starts the medium as most people do first. What else it starts on is in TestBootAll.
func TestBootCD(t *testing.T) {
	testenv.NeedRealRoot(t)
	testenv.NeedPrograms(t, "qemu-system-x86_64", "xorriso", "mkfs.vfat", "mcopy", "grub-mkimage")
	file, _ := build(t, request(t, imagetest.Tree(t, imagetest.Live), `flags="dmsquash" firmware="bios" `+console, quick))
	boot(t, asCD(file, qemu.BIOS), [2]string{"findmnt -n -o FSTYPE /", "overlay"}, [2]string{"touch /kept && echo fine", "fine"})
}
