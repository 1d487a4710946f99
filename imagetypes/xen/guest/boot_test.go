package guest

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/imagetypes/disk"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/imagetypes/internal/imagetest"
	"github.com/imgbuild/imgbuild/internal/cpio"
	"github.com/imgbuild/imgbuild/internal/qemu"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
	"github.com/imgbuild/imgbuild/rootfs/initrd"
)

// edit makes changes to a tree that do not fail.
type edit struct {
	*layers.Editor
	t *testing.T
}

func edited(t *testing.T, tree *layers.Tree) edit {
	return edit{tree.Edit(layers.Timespec{Sec: 1600000000}), t}
}

// write writes a program or a directory (text "").
func (e edit) write(name, text string) {
	e.t.Helper()
	if text == "" {
		if err := e.MkdirAll(name, 0o755); err != nil {
			e.t.Fatal(err)
		}
		return
	}
	e.write(path.Dir(name), "")
	if err := e.WriteFile(name, []byte(text), 0o755); err != nil {
		e.t.Fatal(err)
	}
}

// content returns a file of the tree.
func content(t *testing.T, tree *layers.Tree, name string) string {
	t.Helper()
	data, err := tree.ReadFile(name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func busybox(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(testenv.NeedProgram(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// quickInitrd is an initial RAM disk with nothing but the given modules and those that they need. What it finds as its root device it starts.
func quickInitrd(t *testing.T, tree *layers.Tree, kernel initrd.Kernel, modules ...string) string {
	t.Helper()
	dir := "usr/lib/modules/" + kernel.Version
	files := map[string]string{"bin/busybox": busybox(t)}
	script := "#!/bin/busybox sh\nfor d in proc sys dev root; do /bin/busybox mkdir -p /$d; done\n" +
		"/bin/busybox mount -t proc proc /proc\n/bin/busybox mount -t devtmpfs dev /dev\n"
	for _, module := range modules {
		for line := range strings.Lines(content(t, tree, dir+"/modules.dep")) {
			file, needs, _ := strings.Cut(strings.TrimSpace(line), ":")
			if strings.TrimSuffix(path.Base(file), ".ko") != module {
				continue
			}
			list := append([]string{file}, strings.Fields(needs)...)
			for _, name := range slices.Backward(list) {
				if files["m/"+path.Base(name)] == "" {
					files["m/"+path.Base(name)] = content(t, tree, path.Join(dir, name))
					script += "/bin/busybox insmod /m/" + path.Base(name) + "\n"
				}
			}
		}
	}
	script += `for word in $(/bin/busybox cat /proc/cmdline); do case $word in root=*) root=${word#root=};; esac; done
device=$root
until [ -b "$device" ]; do
	/bin/busybox sleep 1
	case $root in UUID=*) device=$(/bin/busybox findfs $root);; esac
done
/bin/busybox mount -t ext4 -o rw $device /root && exec /bin/busybox switch_root /root /sbin/init
`
	files["init"] = script
	var out bytes.Buffer
	w := cpio.NewWriter(&out)
	add := func(name string, mode uint32, text string) {
		if err := w.WriteHeader(cpio.Header{Name: name, Mode: mode, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	add("bin", layers.TypeDir|0o755, "")
	add("m", layers.TypeDir|0o755, "")
	for name, text := range files {
		add(name, layers.TypeRegular|0o755, text)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// guestTree is a small system with the kernel of another tree. It says something and powers off.
func guestTree(t *testing.T, from *layers.Tree) *layers.Tree {
	t.Helper()
	kernel := initrd.FindKernels(from)[0]
	e := edited(t, layers.NewTree())
	for _, dir := range []string{"proc", "sys", "dev"} {
		e.write(dir, "")
	}
	e.write(kernel.Vmlinuz, content(t, from, kernel.Vmlinuz))
	e.write(kernel.Initrd, quickInitrd(t, from, kernel, "xen-blkfront", "ata_piix", "sd_mod", "crc32c_generic", "ext4"))
	e.write("boot/config-"+kernel.Version, content(t, from, "boot/config-"+kernel.Version))
	e.write("bin/busybox", busybox(t))
	e.write("sbin/init", `#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
echo "the guest lives: $(/bin/busybox cat /sys/hypervisor/type /sys/hypervisor/guest_type) on $(/bin/busybox grep -m1 -o '^/dev/[a-z0-9]*' /proc/mounts)"
/bin/busybox poweroff -f
`)
	return e.Tree()
}

// quickHost is the tree of a host that starts no services but Xen's, and then the guests on its second disk, each in a directory of its own.
func quickHost(t *testing.T) *layers.Tree {
	t.Helper()
	tree := layerstest.Tree(t, layerstest.Xen)
	kernel := initrd.FindKernels(tree)[0]
	e := edited(t, tree)
	if err := e.Remove("sbin/init"); err != nil {
		t.Fatal(err)
	}
	e.write(kernel.Initrd, quickInitrd(t, tree, kernel, "virtio_pci", "virtio_blk", "crc32c_generic", "ext4"))
	e.write("sbin/init", `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mkdir -p /dev/pts; mount -t devpts devpts /dev/pts; mount -t tmpfs run /run; mkdir -p /run/xen /run/lock
ln -s /proc/self/fd /dev/fd; ln -s fd/0 /dev/stdin; ln -s fd/1 /dev/stdout; ln -s fd/2 /dev/stderr
mount -t xenfs xenfs /proc/xen
modprobe -a xen-evtchn xen-privcmd xen-gntdev xen-gntalloc xen-blkback loop
ip link set lo up
bin=$(echo /usr/lib/xen-[0-9]*/bin)
$bin/xenstored; $bin/xen-init-dom0; $bin/xenconsoled
xl info
mount /dev/vdb /mnt
for config in /mnt/*/*.xenconfig; do
	cd ${config%/*}
	echo "starting ${PWD##*/}"
	timeout 600 xl create -c $config "name='${PWD##*/}'" < /dev/null || cat /var/log/xen/*
done
sync
poweroff -f
`)
	return e.Tree()
}

// secondDisk makes a disk of a directory's files.
func secondDisk(t *testing.T, dir string) qemu.Disk {
	t.Helper()
	file := filepath.Join(t.TempDir(), "guests.ext4")
	testenv.Run(t, "mke2fs", "-q", "-t", "ext4", "-d", dir, file, "1G")
	return qemu.Disk{File: file, Format: "raw"}
}

// buildInto builds a guest into a new directory.
func buildInto(t *testing.T, dir string, r *image.Request) {
	t.Helper()
	r.Dir = dir
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	build(t, r)
	if r.Description.Type.Image == "kis" {
		testenv.Run(t, "tar", "-C", dir, "-xf", filepath.Join(dir, imagetest.BaseName+".tar.xz"))
	}
}

// quickly is how the disk of a quick host is made.
const quickly = `filesystem="ext4" kernelcmdline="console=ttyS0 quiet root=/dev/vda1"`

// start starts the disk of a host with the results in dir on a second disk.
func start(t *testing.T, host *layers.Tree, attributes, dir string, arguments ...string) *qemu.Machine {
	t.Helper()
	r := imagetest.Request(t, host, "oem", `xen_server="true" `+attributes, `<bootloader name="grub2" timeout="0" console="serial"/>`)
	first := qemu.Disk{File: imagetest.Build(t, disk.Builder{}, r), Format: "raw"}
	m, err := qemu.Start(t.Context(), qemu.Spec{Disks: []qemu.Disk{first, secondDisk(t, dir)}, Memory: 2000, Arguments: arguments})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// TestBootUnderXen starts a disk that is a host, which starts a guest from what was built for one.
func TestBootUnderXen(t *testing.T) {
	testenv.NeedRealRoot(t) // once is enough: no machine asks who has made its disks
	host := quickHost(t)
	testenv.NeedPrograms(t, "qemu-system-x86_64", "mke2fs")
	results := t.TempDir()
	buildInto(t, filepath.Join(results, "pv"), imagetest.Request(t, guestTree(t, layerstest.Tree(t, layerstest.VM)), "ext4", "", `<machine memory="256"><vmconfig-entry>type = "pv"</vmconfig-entry></machine>`))
	began := time.Now()
	m := start(t, host, quickly, results)
	for _, text := range []string{"xen_version", "the guest lives: xen", "PV on /dev/xvda1"} {
		if err := m.ExpectText(t.Context(), text, 10*time.Minute); err != nil {
			t.Fatal(err)
		}
		t.Logf("%q after %s", text, time.Since(began))
	}
}

// TestBootEveryGuest starts a guest of every kind on a host, but those with emulated devices: see [TestBootHVM].
func TestBootEveryGuest(t *testing.T) {
	if os.Getenv("IMGBUILD_TEST_BOOT") != "all" {
		t.Skip("IMGBUILD_TEST_BOOT=all runs this test")
	}
	testenv.NeedRealRoot(t)
	host := quickHost(t)
	// Debian packs its cloud kernel by LZ4, and the general one by XZ.
	cloud, general := guestTree(t, layerstest.Tree(t, layerstest.VM)), guestTree(t, layerstest.Tree(t, layerstest.Xen))
	testenv.NeedPrograms(t, "qemu-system-x86_64", "mke2fs", "grub-mkimage", "tar", "xz", "qemu-img")
	const quiet = `kernelcmdline="quiet"`
	guests := []struct {
		name                      string
		tree                      *layers.Tree
		kind, attributes, content string
		want                      string
	}{
		{"kis", cloud, "kis", `filesystem="ext4" ` + quiet, `<machine memory="256"/>`, "PVH on /dev/xvda1"},
		{"pvgrub", general, "oem", `filesystem="ext4" firmware="efi" ` + quiet, `<machine memory="256" xen_loader="pvgrub"/>`, "PV on /dev/xvda3"},
		{"pvgrub for a kernel that unpacks itself", cloud, "ext4", "", `<machine memory="256" xen_loader="pvgrub"/>`, "PVH on /dev/xvda1"},
		{"pvh", cloud, "ext4", "", `<machine memory="256"/>`, "PVH on /dev/xvda1"},
		{"pygrub", cloud, "oem", `filesystem="ext4" ` + quiet, `<machine memory="256" xen_loader="pygrub"/>`, "PV on /dev/xvda1"},
		{"qcow2", cloud, "oem", `filesystem="ext4" format="qcow2" ` + quiet, `<machine memory="256"><vmdisk device="/dev/xvda"/></machine>`, "PVH on /dev/xvda1"},
	}
	results := t.TempDir()
	order := func(i int) string { return fmt.Sprint("guest", i) } // in which the host starts them
	for i, g := range guests {
		buildInto(t, filepath.Join(results, order(i)), imagetest.Request(t, g.tree, g.kind, g.attributes, g.content))
	}
	// Of QEMU's processors the plainest has nothing that its emulation of virtual machines can't do.
	m := start(t, host, quickly, results, "-cpu", "qemu64,+svm,+npt")
	began := time.Now()
	for i, g := range guests {
		for _, text := range []string{"starting " + order(i), "the guest lives: xen", g.want} {
			if err := m.ExpectText(t.Context(), text, 10*time.Minute); err != nil {
				t.Fatalf("%s: %v", g.name, err)
			}
		}
		t.Logf("%s after %s", g.name, time.Since(began))
	}
}

// TestBootHVM starts the disk of a guest with emulated devices as hvmloader does: by SeaBIOS, on a machine with an Intel 440FX and an IDE disk. On a host of Xen that is emulated
// itself each access to such a device takes so long that GRUB's menu takes minutes.
func TestBootHVM(t *testing.T) {
	if os.Getenv("IMGBUILD_TEST_BOOT") != "all" {
		t.Skip("IMGBUILD_TEST_BOOT=all runs this test")
	}
	testenv.NeedRealRoot(t)
	testenv.NeedPrograms(t, "qemu-system-x86_64", "mke2fs", "grub-mkimage")
	dir := filepath.Join(t.TempDir(), "hvm")
	buildInto(t, dir, imagetest.Request(t, guestTree(t, layerstest.Tree(t, layerstest.Xen)), "oem", `filesystem="ext4" firmware="bios" kernelcmdline="console=ttyS0"`,
		`<bootloader name="grub2" timeout="1" console="serial"/><machine memory="256" xen_loader="hvmloader"/>`))
	image := filepath.Join(dir, imagetest.BaseName+".raw")
	m, err := qemu.Start(t.Context(), qemu.Spec{Memory: 256, Arguments: []string{"-machine", "pc", "-drive", "file=" + image + ",format=raw,if=ide,snapshot=on"}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, text := range []string{"Test VM", "the guest lives:", "on /dev/sda1"} {
		if err := m.ExpectText(t.Context(), text, 10*time.Minute); err != nil {
			t.Fatal(err)
		}
	}
}
