package iso

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
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
	"github.com/imgbuild/imgbuild/layers/layerstest"
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

// boot starts a machine, logs in, and runs commands, of which each must succeed and print something. Then the machine is switched off: to end in order takes
// dracut a minute.
func boot(t *testing.T, spec qemu.Spec, commands ...[2]string) {
	t.Helper()
	use(t, spec, func(ctx context.Context, m *qemu.Machine) { run(ctx, t, m, commands...) })
}

// use starts a machine and logs in.
func use(t *testing.T, spec qemu.Spec, do func(context.Context, *qemu.Machine)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute)
	defer cancel()
	begin := time.Now()
	m, err := qemu.Start(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Login(ctx, "root", "linux", 20*time.Minute); err != nil {
		t.Fatal(err)
	}
	t.Logf("logged in after %v", time.Since(begin).Round(100*time.Millisecond))
	do(ctx, m)
	t.Logf("done after %v", time.Since(begin).Round(100*time.Millisecond))
}

// run runs commands in a machine: each must succeed, and print something.
func run(ctx context.Context, t *testing.T, m *qemu.Machine, commands ...[2]string) {
	t.Helper()
	for _, c := range commands {
		output, code, err := m.Run(ctx, c[0], 5*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if code != 0 || !strings.Contains(output, c[1]) {
			t.Errorf("%s: exit code %d, output %q lacks %q", c[0], code, output, c[1])
		}
	}
}

// TestLive makes a medium of a real Debian, compares what is in it, and starts it as most people do first. What else it starts on is in TestBootAll.
func TestLive(t *testing.T) {
	needTools(t)
	testenv.NeedPrograms(t, "zstd", "cpio")
	testenv.NeedRoot(t)
	file, inside := build(t, request(t, layerstest.Tree(t, layerstest.Live), `flags="dmsquash" mediacheck="true" firmware="uefi" `+console, quick))
	t.Run("content", func(t *testing.T) {
		dir := extract(t, file)
		sameTree(t, filepath.Join(dir, systemFile), inside)
		list := testenv.Run(t, "sh", "-c", "zstd -dc "+filepath.Join(dir, "boot/x86_64/loader/initrd")+" | cpio --quiet -t")
		for _, name := range []string{"usr/sbin/dmsquash-live-root", "pre-mount/30-check-medium.sh", "usr/sbin/create-live-overlay", "usr/bin/sha256sum", "squashfs.ko"} {
			if !strings.Contains(list, name) {
				t.Errorf("the initial RAM disk has no %s", name)
			}
		}
	})
	t.Run("boot", func(t *testing.T) {
		testenv.NeedRealRoot(t) // once is enough: the machine does not ask who has made the medium
		testenv.NeedProgram(t, "qemu-system-x86_64")
		boot(t, asCD(file, qemu.BIOS), [2]string{"findmnt -n -o FSTYPE /", "overlay"}, [2]string{"touch /kept && echo fine", "fine"})
	})
}

// needAllBoots skips what takes minutes and is not for every run of the tests.
func needAllBoots(t *testing.T) {
	t.Helper()
	if os.Getenv("IMGBUILD_TEST_BOOT") != "all" {
		t.Skip("IMGBUILD_TEST_BOOT=all runs this test")
	}
	testenv.NeedRealRoot(t)
	testenv.NeedPrograms(t, "qemu-system-x86_64", "xorriso", "mkfs.vfat", "mcopy", "grub-mkimage")
}

// stick returns a copy of an ISO image that is as large as a USB stick.
func stick(t *testing.T, file string) string {
	t.Helper()
	const size = 2 << 30
	name := filepath.Join(t.TempDir(), "stick")
	testenv.Run(t, "cp", "--sparse=always", file, name)
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestBootAll starts media in every way: as a CD and as a stick, by BIOS and by UEFI. Sticks keep changes, also those that are checked at every start.
func TestBootAll(t *testing.T) {
	needAllBoots(t)
	tree := layerstest.Tree(t, layerstest.Live)
	for _, c := range []struct{ flags, attributes string }{
		{flagDMSquash, `mediacheck="true" hybridpersistent="true" kernelcmdline="console=ttyS0 mediacheck=1"`},
		{flagOverlay, `mediacheck="true" hybridpersistent="true" kernelcmdline="console=ttyS0 mediacheck=1"`},
	} {
		t.Run(c.flags, func(t *testing.T) {
			file, _ := build(t, request(t, tree, `firmware="uefi" flags="`+c.flags+`" `+c.attributes, quick))
			overlay := [2]string{"findmnt -n -o FSTYPE /", "overlay"}
			t.Run("CD by UEFI", func(t *testing.T) {
				boot(t, asCD(file, qemu.UEFI), overlay, [2]string{"touch /kept && echo fine", "fine"})
			})
			t.Run("stick without room", func(t *testing.T) {
				boot(t, qemu.Spec{Firmware: qemu.BIOS, Disks: []qemu.Disk{{File: file, Format: "raw"}}}, overlay, [2]string{"touch /lost && echo fine", "fine"})
			})
			disk := stick(t, file)
			t.Run("stick by UEFI", func(t *testing.T) {
				use(t, asDisk(disk, qemu.UEFI), func(ctx context.Context, m *qemu.Machine) {
					run(ctx, t, m, overlay, [2]string{"echo content > /kept; lsblk -n -o LABEL", "cow"}, [2]string{"ls /sys/firmware", "efi"})
					if err := m.Shutdown(ctx, 10*time.Minute); err != nil {
						t.Error(err)
					}
				})
			})
			t.Run("stick by BIOS", func(t *testing.T) { boot(t, asDisk(disk, qemu.BIOS), overlay, [2]string{"cat /kept", "content"}) })
		})
	}
}

// TestBootChecked starts media that check themselves, by our own module and by dracut's: good ones start, one with a changed byte is refused.
func TestBootChecked(t *testing.T) {
	needAllBoots(t)
	tree := layerstest.Tree(t, layerstest.Live)
	for _, c := range []struct{ word, refusal string }{
		{"mediacheck=1", "The medium is DAMAGED"},
		{"rd.live.check", "CD check failed"},
	} {
		t.Run(c.word, func(t *testing.T) {
			file, _ := build(t, request(t, tree, `firmware="uefi" flags="dmsquash" mediacheck="true" kernelcmdline="console=ttyS0 `+c.word+`"`, quick))
			t.Run("good", func(t *testing.T) {
				boot(t, asCD(file, qemu.BIOS), [2]string{"findmnt -n -o FSTYPE /", "overlay"}, [2]string{"cat /proc/cmdline", c.word})
			})
			t.Run("damaged", func(t *testing.T) {
				flip(t, file)
				m, err := qemu.Start(t.Context(), asCD(file, qemu.BIOS))
				if err != nil {
					t.Fatal(err)
				}
				defer m.Close()
				if _, err := m.Expect(t.Context(), regexp.MustCompile(c.refusal), 20*time.Minute); err != nil {
					t.Fatal(err)
				}
				if strings.Contains(m.Console(), "login:") {
					t.Error("it starts all the same")
				}
			})
		})
	}
}

// flip changes one bit in the middle of a file, where a medium has its system.
func flip(t *testing.T, name string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, info.Size()/2); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, info.Size()/2); err != nil {
		t.Fatal(err)
	}
}

// TestBootSecurely starts a medium where only signed programs may start.
func TestBootSecurely(t *testing.T) {
	needAllBoots(t)
	file, _ := build(t, request(t, layerstest.Tree(t, layerstest.Live), `firmware="uefi" flags="dmsquash" `+console, quick))
	boot(t, asCD(file, qemu.SecureBoot), [2]string{"od -An -tu1 /sys/firmware/efi/efivars/SecureBoot-*", " 1\n"})
}

// TestLargeFileBesideBootFiles has a file of more than 4 GiB on the medium, all holes.
func TestLargeFileBesideBootFiles(t *testing.T) {
	needAllBoots(t)
	needTools(t)
	prepared, builder, err := Builder{}.Prepare(t.Context(), request(t, smallTree(t, nil), `flags="dmsquash"`, ""))
	if err != nil {
		t.Fatal(err)
	}
	const size = 5 << 30
	large := filepath.Join(builder.(Builder).ready.content(), "large")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, size); err != nil {
		t.Fatal(err)
	}
	results, err := builder.Build(t.Context(), prepared)
	if err != nil {
		t.Fatal(err)
	}
	list := testenv.Run(t, "xorriso", "-indev", "stdio:"+filepath.Join(prepared.Dir, results[0].File), "-lsl", "/")
	if !strings.Contains(list, fmt.Sprint(size)) {
		t.Errorf("xorriso sees:\n%s", list)
	}
}
