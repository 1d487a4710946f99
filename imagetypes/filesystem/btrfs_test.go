package filesystem

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/helperkernel"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// dividedTree is a tree with something in each subvolume.
func dividedTree(t *testing.T) *layers.Tree {
	t.Helper()
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1600000000})
	for _, name := range []string{"etc/hostname", "home/user/file", "var/log/journal/x", "var/lib/images/disk"} {
		if err := edit.WriteFile(name, []byte(name), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := edit.MkdirAll("home/user/private", 0o700); err != nil {
		t.Fatal(err)
	}
	return edit.Tree()
}

// look writes a file system of the tree and lets the kernel look at it by a script, which finds it mounted at $root.
func look(t *testing.T, tree *layers.Tree, spec Spec, options, script string, programs ...string) string {
	t.Helper()
	needKernel(t)
	size, err := Size(t.Context(), testEnv(), tree, spec)
	if err != nil {
		t.Fatal(err)
	}
	f := newFile(t)
	if err := Write(t.Context(), testEnv(), f, 0, size, tree, spec); err != nil {
		t.Fatal(err)
	}
	if spec.Type == "btrfs" {
		testenv.Run(t, "btrfs", "check", f.Name())
	}
	out, err := helperkernel.Run(t.Context(), helperkernel.Spec{
		Name: "looking at a file system", Disks: []helperkernel.Disk{{File: f, Size: size}}, Modules: []string{spec.Type},
		Script:   "root=/tmp/root\nmkdir $root\nmount -t " + spec.Type + " -o " + options + " $disk1 $root\n" + script + "umount -R $root\n",
		Programs: append(programs, "mkdir", "mount", "umount"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSubvolumes(t *testing.T) {
	testenv.NeedProgram(t, "btrfs")
	spec := Spec{Type: "btrfs", Label: "ROOT", Btrfs: Btrfs{
		Root: "@", KeepDefault: true,
		Subvolumes: []Subvolume{{Name: "@/var/log", Path: "var/log"}, {Name: "home dirs", Path: "home", Quota: "100M"}, {Name: "@/var/lib/images", Path: "var/lib/images", NoCOW: true}},
	}}
	out := look(t, dividedTree(t), spec, "rw", `btrfs subvolume list $root | sed 's/.* path //'
echo default: $(btrfs subvolume get-default $root)
lsattr -d $root/@/var/lib/images $root/@/var/log | cut -d' ' -f1 | tr -d '\n'; echo
lsattr $root/@/var/lib/images/disk | cut -d' ' -f1
find "$root/home dirs" -printf '%P %m\n' | sort
ls $root/@/home
ls $root/@/var/log/journal
btrfs qgroup show -r --raw $root | grep 104857600 | wc -l
`, "btrfs", "sed", "lsattr", "cut", "tr", "find", "sort", "ls", "grep", "wc")
	want := `@
home dirs
@/var/log
@/var/lib/images
default: ID 5 (FS_TREE)
---------------C----------------------------
---------------C------
 755
user 755
user/file 640
user/private 700
x
1
`
	out = strings.ReplaceAll(out, "@/var/lib/images\n@/var/log\n", "@/var/log\n@/var/lib/images\n")
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(out, "\n")); diff != "" {
		t.Error(diff)
	}
}

// TestSnapshotRoot has the layout of snapper, read-only and with quota groups.
func TestSnapshotRoot(t *testing.T) {
	testenv.NeedProgram(t, "btrfs")
	spec := Spec{Type: "btrfs", Btrfs: Btrfs{Root: "@", Snapshot: true, ReadOnly: true, Quota: true, Subvolumes: []Subvolume{{Name: "@/var/log", Path: "var/log"}}}}
	out := look(t, dividedTree(t), spec, "rw", `btrfs subvolume list $root | sed 's/.* path //'
cat $root/etc/hostname; echo
touch $root/new 2> /dev/null || echo read-only
find $root/var/log
mkdir /tmp/top
mount -t btrfs -o subvolid=5 $disk1 /tmp/top
find /tmp/top/@ -maxdepth 2 | sort
find /tmp/top/@/var/log -type f
cat /tmp/top/@/.snapshots/1/info.xml
btrfs qgroup show --raw /tmp/top | grep -c ^1/0
umount /tmp/top
`, "btrfs", "sed", "cat", "touch", "find", "mkdir", "sort", "grep")
	for _, want := range []string{
		"@\n@/.snapshots\n@/.snapshots/1/snapshot\n@/var/log\n", "etc/hostname\nread-only\n/tmp/root/var/log\n", "/tmp/top/@\n/tmp/top/@/.snapshots\n/tmp/top/@/.snapshots/1\n/tmp/top/@/var\n/tmp/top/@/var/log\n",
		"/tmp/top/@/var/log/journal/x\n", "<num>1</num>", "<date>2023-11-14 22:13:20</date>", "</snapshot>\n1\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the kernel says\n%s\nwithout %q", out, want)
		}
	}
}

func TestAttributes(t *testing.T) {
	testenv.NeedProgram(t, "lsattr")
	for _, kind := range []string{"ext4", "xfs"} {
		out := look(t, dividedTree(t), Spec{Type: kind, Attributes: "S"}, "rw", `echo new > $root/new
lsattr -d $root $root/home $root/etc/hostname $root/new | cut -d' ' -f1 | tr -d '-'
`, "lsattr", "cut", "tr")
		for _, flags := range strings.Fields(out) {
			if !strings.Contains(flags, "S") {
				t.Errorf("%s: lsattr says\n%s", kind, out)
			}
		}
	}
}

func TestErofsCompression(t *testing.T) {
	testenv.NeedPrograms(t, "mkfs.erofs", "fsck.erofs", "blkid")
	tree := dividedTree(t)
	edit := tree.Edit(layers.Timespec{})
	if err := edit.WriteFile("text", []byte(strings.Repeat("much of the same, ", 100000)), 0o644); err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int64{}
	for _, compression := range []string{"uncompressed", "lz4", "lz4hc,12"} {
		spec := Spec{Type: "erofs", Compression: compression, Label: "a label"}
		size, err := Size(t.Context(), testEnv(), edit.Tree(), spec)
		if err != nil {
			t.Fatal(err)
		}
		f := newFile(t)
		if err := Write(t.Context(), testEnv(), f, 0, size, edit.Tree(), spec); err != nil {
			t.Fatal(err)
		}
		testenv.Run(t, "fsck.erofs", f.Name())
		if info := testenv.Run(t, "blkid", "-p", f.Name()); !strings.Contains(info, `LABEL="a label"`) {
			t.Errorf("blkid: %s", info)
		}
		sizes[compression] = size
	}
	if sizes["lz4hc,12"] >= sizes["uncompressed"] {
		t.Errorf("sizes are %v", sizes)
	}
	for _, wrong := range []string{"bzip2", "lz4,12 --all-root", "uncompressed,1", "lz4::"} {
		if err := checkErofs(Spec{Type: "erofs", Compression: wrong}); err == nil {
			t.Errorf("compression %q is taken", wrong)
		}
	}
}
