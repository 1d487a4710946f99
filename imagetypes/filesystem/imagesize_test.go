package filesystem

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/helperkernel"
	"github.com/imgbuild/imgbuild/internal/testenv"
)

// TestSizesThatAreTooSmall are refused before anything is written.
func TestSizesThatAreTooSmall(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs")
	for _, c := range []struct {
		kind string
		mb   int64
		want string // "" is large enough
	}{
		{"ext4", 6, "6.0 MiB are too small: the ext4 file system needs "}, {"ext4", 64, ""}, {"xfs", 299, "needs 300 MiB"}, {"xfs", 300, ""},
		{"btrfs", 100, "needs 109 MiB"}, {"reiserfs", 20, "needs 34 MiB"}, {"reiserfs", 34, ""}, {"squashfs", 1, ""},
	} {
		typ := &description.Type{Image: c.kind, Size: &description.Size{MB: c.mb}}
		err := CheckSize(t.Context(), testEnv(), typ, smallTree(t), Spec{Type: c.kind})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s, %d MiB: %v", c.kind, c.mb, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasSuffix(err.Error(), "; make it larger, or leave <size> out")):
			t.Errorf("%s, %d MiB: error is %v", c.kind, c.mb, err)
		}
	}
}

// TestSizeCheckIsExact has ext4 take the least size that is not refused.
func TestSizeCheckIsExact(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs")
	tree, spec := smallTree(t), Spec{Type: "ext4"}
	typ := &description.Type{Image: "ext4", Size: &description.Size{MB: 1}}
	for CheckSize(t.Context(), testEnv(), typ, tree, spec) != nil {
		typ.Size.MB++
	}
	if err := Write(t.Context(), testEnv(), newFile(t), 0, typ.Size.MB<<20, tree, spec); err != nil {
		t.Errorf("%d MiB were not refused: %v", typ.Size.MB, err)
	}
}

// TestManyInodes has room for inodes that are asked for by number, though the tree is small.
func TestManyInodes(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "e2fsck")
	for _, options := range []string{"-N 300000", "-N 100000 -I 512", "-N 70000 -b 1024"} {
		spec := Spec{Type: "ext4", MkfsOptions: strings.Fields(options)}
		size, err := Size(t.Context(), testEnv(), smallTree(t), spec)
		if err != nil {
			t.Errorf("%s: %v", options, err)
			continue
		}
		f := newFile(t)
		if err := Write(t.Context(), testEnv(), f, 0, size, smallTree(t), spec); err != nil || size > 120<<20 {
			t.Errorf("%s, %d bytes: %v", options, size, err)
		}
		testenv.Run(t, "e2fsck", "-fn", f.Name())
	}
}

// TestNoSpaceInKernel has the size that would do in the error, at its place.
func TestNoSpaceInKernel(t *testing.T) {
	full := fmt.Errorf("filling: %w", &helperkernel.ScriptError{Code: 2, Output: "tar: a: Cannot write: No space left on device"})
	err := noSpace(t.Context(), testEnv(), smallTree(t), Spec{Type: "reiserfs"}, 35<<20, full)
	var small *TooSmallError
	if !errors.As(err, &small) || small.Size != 35<<20 || small.Need <= small.Size {
		t.Fatalf("error is %v", err)
	}
	placed := SizeError(&description.Type{Size: &description.Size{MB: 35}}, err).Error()
	if !strings.Contains(placed, "35 MiB are too small: the reiserfs file system needs about ") || !strings.Contains(placed, "leave <size> out") {
		t.Error(placed)
	}
	if other := errors.New("other"); !errors.Is(noSpace(t.Context(), testEnv(), smallTree(t), Spec{Type: "reiserfs"}, 1, other), other) {
		t.Error("another error is lost")
	}
}

// TestTooLargeForCramfs has the words of mkfs.cramfs, run here or in a helper kernel, end up at the image type.
func TestTooLargeForCramfs(t *testing.T) {
	const words = "mkfs.cramfs: filesystem too big.  Exiting."
	for _, err := range []error{&command.ExitError{Output: words}, fmt.Errorf("making: %w", &helperkernel.ScriptError{Output: words})} {
		if !saysTooBig(err) {
			t.Errorf("%T is not understood", err)
		}
	}
	err := SizeError(&description.Type{}, fmt.Errorf("writing: %w", &TooLargeError{Type: "cramfs", Max: maxCramfs}))
	if want := "the root tree has more than 272 MiB even when it is compressed, which is all that cramfs can hold; use squashfs or erofs"; err.Error() != want {
		t.Errorf("error is %v", err)
	}
}

// TestPackedImagesAreAsLargeAsTheirContent has no room behind a compressed file system, in whose image a foreign reader would wonder what it is.
func TestPackedImagesAreAsLargeAsTheirContent(t *testing.T) {
	testenv.NeedPrograms(t, "mkfs.erofs", "mkfs.cramfs", "fsck.cramfs")
	for _, kind := range []string{"squashfs", "erofs", "cramfs"} {
		r := request(t, kind)
		r.Tree = cramfsTree(t)
		results, err := Builder{}.Build(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(r.Dir, results[0].File)
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size()%4096 != 0 || info.Size() > 256<<10 {
			t.Errorf("%s: the image has %d bytes", kind, info.Size())
		}
		if kind == "cramfs" {
			if out := testenv.Run(t, "fsck.cramfs", name); strings.Contains(out, "past end") {
				t.Errorf("fsck.cramfs: %s", out)
			}
		}
	}
}
