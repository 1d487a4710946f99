package filesystem

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/squashfs"
	"github.com/imgbuild/imgbuild/layers"
)

// What the file systems that a helper kernel writes can't hold.

// kernelLimits are those of a file system for what it refuses to make.
type kernelLimits struct {
	target       int    // length of the target of a symbolic link in bytes
	major, minor uint32 // of a device
}

// limitsOf returns the limits of a type of file system, as Linux has them in fs/xfs/xfs_symlink.c and xfs_iops.c (xfs_generic_create), fs/btrfs/ctree.h, and
// fs/reiserfs/reiserfs.h, with the nodes of 16 KiB and blocks of 4 KiB that their mkfs make.
func limitsOf(kind string) kernelLimits {
	const major, minor = 1<<12 - 1, 1<<20 - 1 // what Linux itself can tell apart
	switch kind {
	case "xfs":
		return kernelLimits{1023, 1<<9 - 1, 1<<18 - 1}
	case "reiserfs":
		return kernelLimits{3976, major, minor}
	default:
		return kernelLimits{4095, major, minor}
	}
}

// checkKernelTree refuses what the file system can't hold at all, each with its name.
func checkKernelTree(tree *layers.Tree, kind string) error {
	limits := limitsOf(kind)
	return refused(tree, "use ext4 or squashfs", func(name string, n *layers.Node) error {
		switch {
		case n.IsSymlink() && len(n.Target) > limits.target:
			return fmt.Errorf("the target of the symbolic link /%s has %d bytes, and in %s it may have %d", name, len(n.Target), kind, limits.target)
		case n.IsDevice() && (n.Major > limits.major || n.Minor > limits.minor):
			return fmt.Errorf("the device /%s is %d:%d, and in %s it may be %d:%d at most", name, n.Major, n.Minor, kind, limits.major, limits.minor)
		}
		return nil
	})
}

// refused collects why entries of a tree can't be held, up to a readable number, and adds the way out.
func refused(tree *layers.Tree, remedy string, reason func(name string, n *layers.Node) error) error {
	const enough = 20
	errTooMany := errors.New("too many")
	var errs []error
	err := tree.Walk(func(name string, n *layers.Node) error {
		if err := reason(name, n); err != nil {
			errs = append(errs, err)
		}
		if len(errs) >= enough {
			return errTooMany
		}
		return nil
	})
	if err != nil && !errors.Is(err, errTooMany) {
		return err
	}
	if len(errs) > 0 {
		return fmt.Errorf("%w\n%s", errors.Join(errs...), remedy)
	}
	return nil
}

// reiserfsNotes say what reiserfs keeps of times: seconds in 32 bits without a sign (fs/reiserfs/reiserfs.h, struct stat_data).
func reiserfsNotes(tree *layers.Tree) ([]layers.Note, error) {
	notes := []layers.Note{{Path: "/", Text: "Linux has had no reiserfs since 6.13: use ext4 or xfs where you can"}}
	parts := false
	err := tree.Walk(func(name string, n *layers.Node) error {
		parts = parts || n.MTime.Nsec != 0
		if kept := min(max(n.MTime.Sec, 0), math.MaxUint32); kept != n.MTime.Sec {
			notes = append(notes, layers.Note{Path: "/" + name, Text: fmt.Sprintf("time of last change %s set to %s: reiserfs holds no other", day(n.MTime.Sec), day(kept))})
		}
		return nil
	})
	if parts {
		notes = append(notes, squashfs.WholeSeconds())
	}
	return notes, err
}

func day(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.DateOnly) }

// tarNotes are what the helper kernel's tar says it could not restore.
func tarNotes(output string) []layers.Note {
	attribute := regexp.MustCompile(`^setxattrat: Cannot set '(.*)' extended attribute for file '(.*)': (.*)$`)
	var notes []layers.Note
	for line := range strings.Lines(output) {
		said, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "tar: ")
		if !ok {
			continue
		}
		note := layers.Note{Path: "/", Text: "tar: " + said}
		if m := attribute.FindStringSubmatch(said); m != nil {
			note = layers.Note{Path: "/" + strings.TrimPrefix(m[2], "./"), Text: fmt.Sprintf("extended attribute %s left out: %s", m[1], m[3])}
		}
		notes = append(notes, note)
	}
	return notes
}
