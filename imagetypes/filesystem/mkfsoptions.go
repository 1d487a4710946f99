package filesystem

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
)

// SpecOf is the root file system that a description asks for, of the given kind. The label and the identifier are those of the options for mkfs, if
// they set any: whoever writes them elsewhere, such as into /etc/fstab, takes them from here.
func SpecOf(t *description.Type, kind string) (Spec, error) {
	spec := Spec{Type: kind, Label: t.RootFSLabel, MkfsOptions: t.FSCreateOptions, Compression: Compression(t), MountOptions: t.FSMountOptions}
	label, uuid := identity(kind, t.FSCreateOptions)
	if label != "" && spec.Label != "" && label != spec.Label {
		return Spec{}, t.Errorf("fscreateoptions", "leave one of them out", "the file system's label is %q in fscreateoptions, and %q in rootfs_label", label, spec.Label)
	}
	spec.Label, spec.UUID = cmp.Or(label, spec.Label), strings.ToLower(uuid)
	if uuid != "" && !isUUID(uuid) {
		return Spec{}, t.Errorf("fscreateoptions", "it looks like 01234567-89ab-cdef-0123-456789abcdef", "%q is no UUID", uuid)
	}
	return spec, nil
}

// identity returns the label and the identifier that options for mkfs set, "" for what they don't.
func identity(kind string, words []string) (label, uuid string) {
	switch kind {
	case "ext2", "ext3", "ext4":
		options, err := parseOptions(words, mke2fsOptions)
		if err != nil {
			return "", "" // as the file system's check says
		}
		label, _ = value(options, 'L')
		if uuid, _ = value(options, 'U'); uuid == "random" || uuid == "time" {
			uuid = "" // mke2fs's words for one that it makes up
		}
	case "xfs":
		label = last(given(words, "-L"))
		for option := range strings.SplitSeq(strings.Join(given(words, "-m"), ","), ",") {
			if id, ok := strings.CutPrefix(option, "uuid="); ok {
				uuid = id
			}
		}
	case "btrfs", "erofs":
		label, uuid = last(given(words, "-L", "--label")), last(given(words, "-U", "--uuid"))
	case "reiserfs":
		label, uuid = last(given(words, "-l", "--label")), last(given(words, "-u", "--uuid"))
	case "cramfs":
		label = last(given(words, "-n"))
	}
	return label, uuid
}

// given returns the values of an option under any of its names: "-L x", "-Lx", "--label x" or "--label=x".
func given(words []string, names ...string) []string {
	var values []string
	for i, word := range words {
		name, attached, long := strings.Cut(word, "=")
		switch {
		case long && strings.HasPrefix(name, "--") && slices.Contains(names, name):
			values = append(values, attached)
		case slices.Contains(names, word) && i+1 < len(words):
			values = append(values, words[i+1])
		case len(word) > 2 && word[1] != '-' && slices.Contains(names, word[:2]):
			values = append(values, word[2:])
		}
	}
	return values
}

// last returns the value that counts of an option that is given several times.
func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// CheckOptions refuses options that the file system's own tool does not take, at their place in the description: it tries them on an empty file system.
func CheckOptions(ctx context.Context, t *description.Type, spec Spec) error {
	place, text := "fscreateoptions", strings.Join(spec.MkfsOptions, " ")
	switch {
	case len(spec.MkfsOptions) > 0:
	case spec.Type == "erofs" && spec.Compression != "":
		place, text = "erofscompression", spec.Compression
	default:
		return nil
	}
	err := try(ctx, spec)
	var exit *command.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	tool, _, _ := strings.Cut(exit.Line, " ")
	return t.Errorf(place, "see the manual page "+tool+"(8)", "%s does not take %q: %s", tool, text, withoutUsage(exit.Output))
}

// try makes an empty file system, with all that the spec asks for.
func try(ctx context.Context, spec Spec) error {
	const size = 16 << 30 // large enough for any options; most of it is a hole, and all of it in memory
	env := Env{Repro: repro.New(time.Unix(0, 0), "trial")}.filled()
	f, err := memoryFile("trial", nil)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("making a file in memory: %w", err)
	}
	const disk = "/proc/self/fd/3"
	cmd := command.Cmd{Files: []*os.File{f}}
	switch spec.Type {
	case "ext2", "ext3", "ext4":
		m, err := newExtMaker(env, layers.NewTree(), spec)
		if err != nil {
			return err
		}
		m.options = append(m.options, option{'n', ""}) // say what would be made
		return m.run(ctx, f, 0, size, 0)
	case "xfs":
		_, err := xfsLog(ctx, size, env, spec)
		return err
	case "btrfs":
		cmd.Name, cmd.Args = "mkfs.btrfs", append(btrfsArgs(env, spec), disk)
	case "reiserfs":
		if err := f.Truncate(2 * minRei); err != nil { // it writes a large journal
			return fmt.Errorf("making a file in memory: %w", err)
		}
		cmd.Name, cmd.Args = "mkreiserfs", append(reiserfsArgs(env, spec), disk)
	case "erofs", "cramfs":
		return tryDirectory(ctx, env, spec)
	case "squashfs":
		if _, native, err := squashfsOptions(spec); native || err != nil {
			return err
		}
		return trySquashfs(ctx, env, f, spec)
	default:
		return nil
	}
	return command.Run(ctx, cmd)
}

// trySquashfs makes a file system of an empty tar in f.
func trySquashfs(ctx context.Context, env Env, f *os.File, spec Spec) error {
	tar, err := memoryFile("tar", make([]byte, 1024)) // the end of an archive
	if err != nil {
		return err
	}
	defer tar.Close()
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("making a file in memory: %w", err)
	}
	return command.Run(ctx, mksquashfs(env, f, tar, layers.NewTree().Root(), spec))
}

// tryDirectory makes a file system of an empty directory.
func tryDirectory(ctx context.Context, env Env, spec Spec) (err error) {
	scratch, err := os.MkdirTemp("", "imgbuild-trial-")
	if err != nil {
		return fmt.Errorf("making a temporary directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	dir := filepath.Join(scratch, "tree")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("making a temporary directory: %w", err)
	}
	tool := erofsTool(env, spec)
	if spec.Type == "cramfs" {
		tool = cramfsTool(spec)
	}
	return command.Run(ctx, command.Cmd{Name: tool.program, Args: tool.arguments(dir, filepath.Join(scratch, "made"))})
}

// withoutUsage is what a program said before it told how it is used.
func withoutUsage(output string) string {
	var lines []string
	for line := range strings.Lines(output) {
		line = strings.Join(strings.Fields(line), " ")
		if lower := strings.ToLower(line); strings.HasPrefix(lower, "usage:") || strings.HasPrefix(lower, "try '") || strings.HasPrefix(lower, "valid ") || strings.Contains(line, "Options supported:") {
			break
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
