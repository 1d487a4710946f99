package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
)

// squashfs is written by tar2sqfs, or by mksquashfs where the user gives options of it or wants what tar2sqfs lacks or does slowly. Both read a tar stream.

// squashfsDefault is the compression if none is asked for: as fast as reading, and nearly as small as zstd's higher levels.
const squashfsDefault = "zstd"

// zstdLevel is used instead of the tools' default of 15, which takes 25 times longer for a tenth less.
const zstdLevel = "3"

func checkSquashfs(spec Spec) error {
	methods := []string{"", "gzip", "lz4", "lzma", "lzo", "xz", "zstd", "uncompressed"}
	if !slices.Contains(methods, spec.Compression) {
		return fmt.Errorf("%q is no compression of squashfs; it has %s", spec.Compression, strings.Join(methods[1:], ", "))
	}
	if err := checkWords(spec.MkfsOptions); err != nil {
		return err
	}
	return needTools([]string{squashfsTool(spec)})
}

// maxSquashfsIDs is how many different owners and groups, taken together, squashfs can hold: their numbers in its table have 16 bits.
const maxSquashfsIDs = 1 << 16

func checkSquashfsTree(tree *layers.Tree) error {
	ids := map[uint32]struct{}{}
	err := tree.Walk(func(_ string, n *layers.Node) error {
		ids[n.UID], ids[n.GID] = struct{}{}, struct{}{}
		return nil
	})
	if err != nil {
		return err
	}
	if len(ids) > maxSquashfsIDs {
		return fmt.Errorf("the tree has files of %d different owners and groups, and squashfs can hold %d; use erofs or ext4", len(ids), maxSquashfsIDs)
	}
	return nil
}

// squashfsTool chooses the program.
func squashfsTool(spec Spec) string {
	args, ok := tar2sqfsArgs(spec)
	if !ok {
		return "mksquashfs"
	}
	tools := []string{"tar2sqfs", "mksquashfs"}
	// Where there is a filter to try, tar2sqfs compresses everything three times and mksquashfs twice.
	if at := slices.Index(args, "-X"); at >= 0 && !strings.HasPrefix(args[at+1], "level=") {
		slices.Reverse(tools)
	}
	if _, err := command.Find(tools[0]); err != nil {
		if _, err := command.Find(tools[1]); err == nil {
			return tools[1]
		}
	}
	return tools[0]
}

// tar2sqfsArgs translates the compression and those of mksquashfs's options that are in use into arguments for tar2sqfs. It reports false
// where tar2sqfs has no such thing.
func tar2sqfsArgs(spec Spec) ([]string, bool) {
	method, level, filters := spec.Compression, "", ""
	var args []string
	words := spec.MkfsOptions
	for len(words) > 0 {
		word, value := words[0], ""
		switch word {
		case "-noappend", "-no-progress", "-quiet", "-no-duplicates":
			words = words[1:]
			continue
		case "-comp", "-b", "-Xcompression-level", "-Xbcj":
		default:
			return nil, false
		}
		if len(words) < 2 {
			return nil, false
		}
		value, words = words[1], words[2:]
		switch word {
		case "-comp":
			method = value
		case "-b":
			args = append(args, "-b", value)
		case "-Xcompression-level":
			level = "level=" + value
		case "-Xbcj":
			filters = value
		}
	}
	if method == "" {
		method = squashfsDefault
	}
	if method == "zstd" && level == "" {
		level = "level=" + zstdLevel
	}
	args = append(args, "-c", method)
	if extra := strings.Trim(level+","+filters, ","); extra != "" {
		args = append(args, "-X", extra)
	}
	return args, method != "uncompressed"
}

// makeSquashfs makes the file system in a file without a name.
func makeSquashfs(ctx context.Context, env Env, tree *layers.Tree, spec Spec) (_ *os.File, _ int64, err error) {
	tree, notes, err := forSquashfs(tree)
	if err != nil {
		return nil, 0, err
	}
	f, err := temporaryFile(env.Workdir)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	task := env.Progress.Start("writing squashfs", tree.Stats().Data, progress.Bytes)
	err = streamSquashfs(ctx, env, f, tree, spec, task)
	task.Done(err)
	if err != nil {
		return nil, 0, err
	}
	if squashfsTool(spec) == "mksquashfs" {
		missed, err := fixSquashfsRoot(f, tree.Root())
		if err != nil {
			return nil, 0, fmt.Errorf("putting right what mksquashfs has made: %w", err)
		}
		notes = append(notes, missed...)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	env.report("squashfs", notes)
	return f, info.Size(), nil
}

// streamSquashfs runs the tool with the tree as a tar on its standard input.
func streamSquashfs(ctx context.Context, env Env, f *os.File, tree *layers.Tree, spec Spec, task progress.Task) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("making a pipe: %w", err)
	}
	// A larger pipe means fewer switches between the two programs; one of the usual size works too.
	_, _ = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 1<<20)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer r.Close()
		return command.Run(ctx, squashfsCommand(env, f, r, tree.Root(), spec))
	})
	var writing error
	group.Go(func() error {
		defer w.Close()
		writing = layers.WriteTar(ctx, w, tree, layers.TarOptions{Sparse: true, Progress: task.Add})
		if errors.Is(writing, unix.EPIPE) {
			return nil // the tool has stopped reading, and says why
		}
		return writing
	})
	if err := group.Wait(); err != nil {
		return err
	}
	return writing
}

// squashfsCommand is the tool's command line; its output is descriptor 3.
func squashfsCommand(env Env, f *os.File, tar *os.File, root *layers.Node, spec Spec) command.Cmd {
	epoch := strconv.FormatInt(env.Repro.Epoch.Unix(), 10)
	cmd := command.Cmd{Name: squashfsTool(spec), Stdin: tar, Files: []*os.File{f}, Env: []string{repro.EpochVariable + "=" + epoch}}
	if cmd.Name == "tar2sqfs" {
		args, _ := tar2sqfsArgs(spec)
		cmd.Args = append(append([]string{"-q", "-f", "-s"}, args...), "/proc/self/fd/3")
		return cmd
	}
	method := spec.Compression
	if method == "" {
		method = squashfsDefault
	}
	cmd.Env = []string{repro.EpochVariable} // taken away: for mksquashfs it and an option are two answers to one question
	// What fixSquashfsRoot puts right is an inode table that is not compressed.
	cmd.Args = []string{"-", "/proc/self/fd/3", "-tar", "-noappend", "-no-progress", "-quiet", "-mkfs-time", epoch, "-root-mode", fmt.Sprintf("%o", root.Perm()), "-noI"}
	switch {
	case method == "uncompressed":
		cmd.Args = append(cmd.Args, "-noI", "-noId", "-noD", "-noF", "-noX")
	case !slices.Contains(spec.MkfsOptions, "-comp"):
		cmd.Args = append(cmd.Args, "-comp", method)
		if method == "zstd" && !slices.Contains(spec.MkfsOptions, "-Xcompression-level") {
			cmd.Args = append(cmd.Args, "-Xcompression-level", zstdLevel)
		}
	}
	cmd.Args = append(cmd.Args, spec.MkfsOptions...)
	return cmd
}

// maxSquashfsTime is the latest time that squashfs can hold: 32 bits without a sign, in seconds. The earliest is 1970.
const maxSquashfsTime = 1<<32 - 1

// forSquashfs returns the tree as squashfs can hold it, and what it can't.
func forSquashfs(tree *layers.Tree) (*layers.Tree, []layers.Note, error) {
	var notes []layers.Note
	changed := map[*layers.Node]*layers.Node{}
	edit := tree.Edit(layers.Timespec{})
	fractions := false
	err := tree.Walk(func(name string, n *layers.Node) error {
		fractions = fractions || n.MTime.Nsec != 0
		fit, seen := changed[n]
		if !seen {
			var texts []string
			fit, texts = fitSquashfs(n)
			for _, text := range texts {
				notes = append(notes, layers.Note{Path: "/" + name, Text: text})
			}
			if fit != nil && !n.IsDir() {
				changed[n] = fit // so that hard links stay hard links
			}
		}
		if fit == nil {
			return nil
		}
		return edit.Put(name, fit)
	})
	if err != nil {
		return nil, nil, err
	}
	if fractions {
		notes = append(notes, layers.Note{Path: "/", Text: "times are kept in whole seconds"})
	}
	return edit.Tree(), notes, nil
}

// fitSquashfs returns a copy of a node as squashfs can hold it and what is different, or nil if it can hold the node as it is.
func fitSquashfs(n *layers.Node) (*layers.Node, []string) {
	var texts []string
	fit := *n
	fit.MTime.Sec = min(max(n.MTime.Sec, 0), maxSquashfsTime)
	if fit.MTime != n.MTime {
		texts = append(texts, fmt.Sprintf("time of last change %s set to %s: squashfs holds no other",
			n.MTime.Time().Format("2006-01-02"), fit.MTime.Time().Format("2006-01-02")))
	}
	fit.Xattrs = slices.DeleteFunc(slices.Clone(n.Xattrs), func(x layers.Xattr) bool {
		space, _, _ := strings.Cut(x.Name, ".")
		if slices.Contains([]string{"user", "trusted", "security"}, space) {
			return false
		}
		texts = append(texts, fmt.Sprintf("%s left out: squashfs holds no such attribute", x.Name))
		return true
	})
	if len(texts) == 0 {
		return nil, nil
	}
	return &fit, texts
}
