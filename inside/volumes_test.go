package inside

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/helperkernel"
	"github.com/imgbuild/imgbuild/internal/partition"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
)

// foreign makes a file of the given size what a script in a helper kernel makes of it: the file is $disk1, and $disk2 is a squashfs with the tree. Where
// offset is not 0, the disk begins there.
func foreign(t *testing.T, file string, offset, size int64, tree *layers.Tree, v volume) {
	t.Helper()
	testenv.NeedPrograms(t, append(v.programs, "sqfs2tar")...)
	needHelperKernel(t)
	disk, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	if info, err := disk.Stat(); err != nil || info.Size() < offset+size {
		if err := disk.Truncate(offset + size); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.Open(create(t, tree, "squashfs", variant{}, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	_, err = helperkernel.Run(t.Context(), helperkernel.Spec{
		Name: "making the test's volume", Script: v.script, Programs: append(v.programs, "dd"), Modules: v.modules,
		Disks: []helperkernel.Disk{{File: disk, Offset: offset, Size: size}, {File: content, ReadOnly: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestEncryptedVolumes opens a disk like those that installers make: a partition with LUKS, in it a physical volume of LVM, in that logical volumes.
func TestEncryptedVolumes(t *testing.T) {
	testenv.NeedPrograms(t, "cryptsetup", "lvm")
	tree := sample(t)
	const size = 32 << 20
	file := filepath.Join(t.TempDir(), "disk.raw")
	plan, err := partition.Layout(partition.Spec{Partitions: []partition.Want{
		{Name: "p.UEFI", Type: partition.ESP(), Size: 2 << 20}, {Name: "data", Type: partition.Linux(), Size: size},
	}}, repro.New(time.Unix(1700000000, 0), "test"))
	if err != nil {
		t.Fatal(err)
	}
	foreign(t, file, plan.Partitions[1].Start, size, tree, volume{
		script: lvm + `
printf 'open sesame' >/tmp/key
cryptsetup luksFormat --batch-mode --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file /tmp/key $disk1
cryptsetup open --key-file /tmp/key $disk1 secret
lvm="sh /tmp/lvm.sh"
$lvm pvcreate -q /dev/mapper/secret
$lvm vgcreate -q -s 1m system-1 /dev/mapper/secret
$lvm lvcreate -y -L 6m -W n -Z n -n home system-1
$lvm lvcreate -y -L 5m -W n -Z n -n root system-1
dd if=$disk2 of=/dev/system-1/root bs=1M
$lvm vgchange -a n system-1
cryptsetup close secret
`,
		programs: []string{"cryptsetup", "lvm", "cat"}, modules: append(volumeModules(), "dm-crypt", "xts"),
	})
	disk, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	if err := disk.Truncate(plan.DiskSize); err != nil {
		t.Fatal(err)
	}
	if err := plan.Write(disk); err != nil {
		t.Fatal(err)
	}
	opts := Options{Passphrase: []byte("open sesame"), TempDir: t.TempDir()}
	image, err := Open(t.Context(), Name{File: file}, opts)
	if err != nil {
		t.Fatal(err)
	}
	layerstest.Same(t, tree, image.Tree)
	if want := "disk, LUKS volume, physical volume of LVM, squashfs"; image.Kind != want {
		t.Errorf("%q, not %q", image.Kind, want)
	}
	if err := image.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Open(t.Context(), Name{File: file, Parts: []string{"data", "nothing"}}, opts); err == nil || !strings.Contains(err.Error(), `no logical volume "nothing"; it has system-1/home, system-1/root`) {
		t.Errorf("error is %v", err)
	}
	opts.Passphrase = []byte("open barley")
	if _, err := Open(t.Context(), Name{File: file}, opts); err == nil || !strings.Contains(err.Error(), "its passphrase is another one") || strings.Contains(err.Error(), "barley") {
		t.Errorf("error is %v", err)
	}
	opts.Passphrase = nil
	if _, err := Open(t.Context(), Name{File: file}, opts); !errors.Is(err, ErrPassphrase) {
		t.Errorf("error is %v", err)
	}
	if left, err := os.ReadDir(opts.TempDir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestRAID opens one half of a mirror.
func TestRAID(t *testing.T) {
	testenv.NeedProgram(t, "mdadm")
	tree := sample(t)
	file := filepath.Join(t.TempDir(), "member")
	foreign(t, file, 0, 8<<20, tree, volume{
		script: `mdadm --create /dev/md0 --run --level=1 --metadata=1.2 --raid-devices=2 $disk1 missing
dd if=$disk2 of=/dev/md0 bs=1M
mdadm --stop /dev/md0
`,
		programs: []string{"mdadm"}, modules: []string{"md-mod", "raid1"},
	})
	image := open(t, Name{File: file})
	layerstest.Same(t, tree, image.Tree)
	if want := "member of a RAID, squashfs"; image.Kind != want {
		t.Errorf("%q, not %q", image.Kind, want)
	}
}

// TestByQEMU reads a file system with the other kind of helper kernel.
func TestByQEMU(t *testing.T) {
	testenv.NeedPrograms(t, "mkfs.xfs", "qemu-system-x86_64")
	needHelperKernel(t)
	opts := Options{Kernel: helperkernel.QEMU}
	if root := os.Getenv("IMGBUILD_TEST_KERNEL_ROOT"); root != "" {
		opts.Kernels = helperkernel.KernelsOf(os.DirFS(root))
	} else if len(helperkernel.KernelsOf(os.DirFS("/"))) == 0 {
		testenv.Missing(t, "this machine has no kernel, and IMGBUILD_TEST_KERNEL_ROOT names no directory with one")
	}
	tree := sample(t)
	image, err := Open(t.Context(), Name{File: create(t, tree, "xfs", variant{}, nil)}, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	layerstest.Same(t, tree, image.Tree)
}

func TestChooseVolume(t *testing.T) {
	list := []logical{{"a/swap", 1}, {"a/data", 9}, {"a/LVRoot", 5}, {"b/data", 3}}
	got := map[string]int{}
	for _, wanted := range []string{"", "a/data", "swap", "b/data", "LVRoot", "c"} {
		got[wanted] = chooseVolume(list, wanted)
	}
	if diff := cmp.Diff(map[string]int{"": 2, "a/data": 1, "swap": 0, "b/data": 3, "LVRoot": 2, "c": -1}, got); diff != "" {
		t.Error(diff)
	}
	if chooseVolume(list[:2], "") != 1 || chooseVolume(nil, "") != -1 {
		t.Error("the largest volume counts where none is called root")
	}
	for name, want := range map[string]bool{"a-b_c.d+1": true, "": false, "-a": false, "a b": false, "$(x)": false, "a/b": false} {
		if plainName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}
