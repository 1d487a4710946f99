package filesystem

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// oddTree has what only some file systems hold.
func oddTree(t *testing.T) *layers.Tree {
	t.Helper()
	edit := layers.NewTree().Edit(layers.Timespec{})
	for name, n := range map[string]*layers.Node{
		"link":   {Mode: layers.TypeSymlink | 0o777, Target: strings.Repeat("t", 1024)},
		"long":   {Mode: layers.TypeSymlink | 0o777, Target: strings.Repeat("t", 4000)},
		"device": {Mode: layers.TypeBlock | 0o600, Major: 259, Minor: 1 << 18},
		"old":    {Mode: layers.TypeRegular | 0o644, MTime: layers.Timespec{Sec: -86400, Nsec: 5}},
		"new":    {Mode: layers.TypeRegular | 0o644, MTime: layers.Timespec{Sec: 1 << 33}},
		"large":  {Mode: layers.TypeRegular | 0o644, Xattrs: []layers.Xattr{{Name: "trusted.large", Value: strings.Repeat("v", 20000)}, {Name: "trusted.small", Value: "v"}}},
	} {
		if err := edit.Put(name, n); err != nil {
			t.Fatal(err)
		}
	}
	return edit.Tree()
}

// TestKernelTreesThatDoNotFit are refused before a helper kernel would fail.
func TestKernelTreesThatDoNotFit(t *testing.T) {
	for kind, want := range map[string]string{
		"xfs": "the device /device is 259:262144, and in xfs it may be 511:262143 at most\n" +
			"the target of the symbolic link /link has 1024 bytes, and in xfs it may have 1023\n" +
			"the target of the symbolic link /long has 4000 bytes, and in xfs it may have 1023\nuse ext4 or squashfs",
		"reiserfs": "the target of the symbolic link /long has 4000 bytes, and in reiserfs it may have 3976\nuse ext4 or squashfs",
		"btrfs":    "",
	} {
		got := ""
		if err := checkKernelTree(oddTree(t), kind); err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", kind, diff)
		}
	}
	if err := checkCramfsTree(oddTree(t)); err == nil || !strings.Contains(err.Error(), "the device /device is 259:262144, and in cramfs it may be 255:255 at most") {
		t.Errorf("cramfs: error is %v", err)
	}
}

// notes keeps what a user is told.
type notes struct {
	progress.Reporter
	notes []string
}

func (n *notes) Note(text string) { n.notes = append(n.notes, text) }

// TestKernelLimits are those that the kernel has: what is just allowed is written, and what is left out is told.
func TestKernelLimits(t *testing.T) {
	needKernel(t)
	for kind, want := range map[string][]string{
		"xfs":   nil,
		"btrfs": {"/large: extended attribute trusted.large left out: No space left on device"},
		"reiserfs": {
			"/: Linux has had no reiserfs since 6.13: use ext4 or xfs where you can",
			"/new: time of last change 2242-03-16 set to 2106-02-07: reiserfs holds no other",
			"/old: time of last change 1969-12-31 set to 1970-01-01: reiserfs holds no other",
			"/: times are kept in whole seconds",
		},
	} {
		t.Run(kind, func(t *testing.T) {
			testenv.NeedProgram(t, map[string]string{"xfs": "mkfs.xfs", "btrfs": "mkfs.btrfs", "reiserfs": "mkreiserfs"}[kind])
			limits := limitsOf(kind)
			edit := without(t, oddTree(t), "link", "long", "device").Edit(layers.Timespec{})
			for name, n := range map[string]*layers.Node{
				"link":   {Mode: layers.TypeSymlink | 0o777, Target: strings.Repeat("t", limits.target)},
				"device": {Mode: layers.TypeChar | 0o600, Major: limits.major, Minor: limits.minor},
			} {
				if err := edit.Put(name, n); err != nil {
					t.Fatal(err)
				}
			}
			tree, spec := edit.Tree(), Spec{Type: kind}
			if err := CheckTree(tree, spec); err != nil {
				t.Fatal(err)
			}
			size, err := Size(t.Context(), testEnv(), tree, spec)
			if err != nil {
				t.Fatal(err)
			}
			said := notes{Reporter: progress.Discard}
			env := testEnv()
			env.Progress = &said
			f := newFile(t)
			if err := Write(t.Context(), env, f, 0, size, tree, spec); err != nil {
				t.Fatal(err)
			}
			var wanted []string
			for _, w := range want {
				wanted = append(wanted, kind+": "+w)
			}
			if diff := cmp.Diff(wanted, said.notes); diff != "" {
				t.Errorf("it says something else: %s", diff)
			}
			got := readBack(t, f, 0, size, kind)
			for _, name := range []string{"link", "device"} {
				n, err := got.Lookup(name)
				if err != nil {
					t.Fatal(err)
				}
				if n.IsSymlink() && len(n.Target) != limits.target || n.IsDevice() && (n.Major != limits.major || n.Minor != limits.minor) {
					t.Errorf("/%s is another: %d:%d, %q", name, n.Major, n.Minor, n.Target)
				}
			}
		})
	}
}

// TestFullDisk is a disk of this machine that has less space left than the file system takes: what is written back late must not be lost without a word.
func TestFullDisk(t *testing.T) {
	needKernel(t)
	edit := layers.NewTree().Edit(layers.Timespec{})
	content := make([]byte, 40<<20)
	if _, err := rand.NewChaCha8([32]byte{}).Read(content); err != nil {
		t.Fatal(err)
	}
	if err := edit.WriteFile("file", content, 0o644); err != nil {
		t.Fatal(err)
	}
	for kind, space := range map[string]string{"xfs": "80m", "btrfs": "24m", "reiserfs": "56m"} {
		t.Run(kind, func(t *testing.T) {
			testenv.NeedProgram(t, map[string]string{"xfs": "mkfs.xfs", "btrfs": "mkfs.btrfs", "reiserfs": "mkreiserfs"}[kind])
			dir := testenv.SmallDir(t, space)
			f, err := os.Create(dir + "/image")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			env := testEnv()
			env.Workdir = t.TempDir()
			if _, err := Create(t.Context(), env, f, edit.Tree(), Spec{Type: kind}); err == nil || !strings.Contains(err.Error(), "no space is left in "+dir) {
				t.Errorf("error is %v", err)
			}
		})
	}
}
