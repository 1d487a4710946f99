package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/helperkernel"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
)

// The limits of cramfs (kernel documentation, filesystems/cramfs.rst), in bytes.
const (
	maxCramfsFile = 16<<20 - 1
	maxCramfs     = 272 << 20
	maxCramfsName = 251 // 6 bits, in words of 4 bytes
)

func checkCramfs(spec Spec) error {
	if len(spec.Label) > 16 {
		return fmt.Errorf("the label %q has %d bytes; cramfs file systems allow 16", spec.Label, len(spec.Label))
	}
	if spec.Compression != "" && spec.Compression != "gzip" {
		return fmt.Errorf("%q is no compression of cramfs; it has gzip alone", spec.Compression)
	}
	return checkWords(spec.MkfsOptions)
}

// checkCramfsTree refuses what cramfs can't hold at all, each with its name.
func checkCramfsTree(tree *layers.Tree) error {
	return refused(tree, "use squashfs or erofs", func(name string, n *layers.Node) error {
		switch {
		case n.IsRegular() && n.Size > maxCramfsFile:
			return fmt.Errorf("/%s has %d bytes, and a file in cramfs may have %d", name, n.Size, maxCramfsFile)
		case len(path.Base(name)) > maxCramfsName:
			return fmt.Errorf("the name of /%s has %d bytes, and one in cramfs may have %d", name, len(path.Base(name)), maxCramfsName)
		case n.UID > 1<<16-1:
			return fmt.Errorf("the owner of /%s is %d, and in cramfs it may be %d", name, n.UID, 1<<16-1)
		case n.GID > 1<<8-1:
			return fmt.Errorf("the group of /%s is %d, and in cramfs it may be %d", name, n.GID, 1<<8-1)
		case n.IsDevice() && (n.Major > 1<<8-1 || n.Minor > 1<<8-1):
			return fmt.Errorf("the device /%s is %d:%d, and in cramfs it may be 255:255 at most", name, n.Major, n.Minor)
		}
		return nil
	})
}

// cramfsTool is mkfs.cramfs with what the spec asks for.
func cramfsTool(spec Spec) directoryTool {
	var args []string
	if spec.Label != "" {
		args = append(args, "-n", spec.Label)
	}
	args = append(args, spec.MkfsOptions...)
	return directoryTool{kind: "cramfs", program: "mkfs.cramfs", length: cramfsLength, arguments: func(dir, to string) []string { return append(args, dir, to) }}
}

// saysTooBig reports whether mkfs.cramfs failed for the size of what it makes.
func saysTooBig(err error) bool {
	const words = "filesystem too big"
	var exit *command.ExitError
	var script *helperkernel.ScriptError
	return errors.As(err, &exit) && strings.Contains(exit.Output, words) || errors.As(err, &script) && strings.Contains(script.Output, words)
}

// TooLargeError says that the content of a tree, compressed, is more than a file system can hold.
type TooLargeError struct {
	Type string
	Max  int64 // bytes
}

// Error implements error.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the root tree has more than %s even when it is compressed, which is all that %s can hold", progress.FormatBytes(e.Max), e.Type)
}

// makeCramfs runs mkfs.cramfs on a directory.
func makeCramfs(ctx context.Context, env Env, tree *layers.Tree, spec Spec) (_ *os.File, _ int64, err error) {
	if err := checkCramfsTree(tree); err != nil {
		return nil, 0, err
	}
	task := env.Progress.Start("writing cramfs", tree.Stats().Data, progress.Bytes)
	defer func() { task.Done(err) }()
	f, size, notes, err := cramfsTool(spec).run(ctx, env, tree)
	if saysTooBig(err) {
		return nil, 0, &TooLargeError{Type: "cramfs", Max: maxCramfs}
	}
	if err != nil {
		return nil, 0, err
	}
	if size > maxCramfs {
		return nil, 0, errors.Join(&TooLargeError{Type: "cramfs", Max: maxCramfs}, f.Close())
	}
	env.report("cramfs", append(notes, layers.Note{Path: "/", Text: "cramfs keeps no times, no extended attributes and no hard links, and no kernel of Debian mounts it: use squashfs or erofs where you can"}))
	return f, size, nil
}
