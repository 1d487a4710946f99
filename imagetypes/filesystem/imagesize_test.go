package filesystem

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/description"
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
