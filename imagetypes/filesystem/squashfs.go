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

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/squashfs"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
)

// squashfs is written by package squashfs, or by mksquashfs from a tar stream where the user wants lzo, lzma or gives options that only it knows.

func checkSquashfs(spec Spec) error {
	methods := []string{"", "gzip", "lz4", "lzma", "lzo", "xz", "zstd", "uncompressed"}
	if !slices.Contains(methods, spec.Compression) {
		return fmt.Errorf("%q is no compression of squashfs; it has %s", spec.Compression, strings.Join(methods[1:], ", "))
	}
	if err := checkWords(spec.MkfsOptions); err != nil {
		return err
	}
	_, native, err := squashfsOptions(spec)
	if err != nil || native {
		return err
	}
	return needTools([]string{"mksquashfs"})
}

func checkSquashfsTree(tree *layers.Tree) error {
	ids := map[uint32]struct{}{}
	err := tree.Walk(func(_ string, n *layers.Node) error {
		ids[n.UID], ids[n.GID] = struct{}{}, struct{}{}
		return nil
	})
	if err != nil {
		return err
	}
	if len(ids) > squashfs.MaxIDs {
		return fmt.Errorf("the tree has files of %d different owners and groups, and squashfs can hold %d; use erofs or ext4", len(ids), squashfs.MaxIDs)
	}
	return nil
}

// makeSquashfs makes the file system in a file without a name.
func makeSquashfs(ctx context.Context, env Env, tree *layers.Tree, spec Spec) (*os.File, int64, error) {
	f, err := temporaryFile(env.Workdir)
	if err != nil {
		return nil, 0, err
	}
	size, err := writeSquashfs(ctx, env, f, tree, spec)
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}

// writeSquashfs makes the file system in an empty file, and returns its size in bytes.
func writeSquashfs(ctx context.Context, env Env, f *os.File, tree *layers.Tree, spec Spec) (size int64, err error) {
	options, native, err := squashfsOptions(spec)
	if err != nil {
		return 0, err
	}
	task := env.Progress.Start("writing squashfs", tree.Stats().Data, progress.Bytes)
	defer func() { task.Done(err) }()
	if !native {
		return foreignSquashfs(ctx, env, f, tree, spec, task)
	}
	options.Epoch = uint32(min(max(env.Repro.Epoch.Unix(), 0), squashfs.MaxTime))
	options.Progress, options.Observe = task.Add, env.Observe
	report, err := squashfs.Write(ctx, f, tree, options)
	if err != nil {
		return 0, err
	}
	env.report("squashfs", report.Notes)
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// foreignSquashfs has mksquashfs make the file system.
func foreignSquashfs(ctx context.Context, env Env, f *os.File, tree *layers.Tree, spec Spec, task progress.Task) (int64, error) {
	tree, notes, err := forSquashfs(tree)
	if err != nil {
		return 0, err
	}
	if err := streamSquashfs(ctx, env, f, tree, spec, task); err != nil {
		return 0, err
	}
	missed, err := fixSquashfsRoot(f, tree.Root())
	if err != nil {
		return 0, fmt.Errorf("putting right what mksquashfs has made: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	env.report("squashfs", append(notes, missed...))
	return info.Size(), nil
}

// streamSquashfs runs mksquashfs with the tree as a tar on its standard input.
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
		return command.Run(ctx, mksquashfs(env, f, r, tree.Root(), spec))
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

// mksquashfs is the command line; its output is descriptor 3.
func mksquashfs(env Env, f *os.File, tar *os.File, root *layers.Node, spec Spec) command.Cmd {
	args := []string{
		"-", "/proc/self/fd/3", "-tar", "-noappend", "-no-progress", "-quiet", "-mkfs-time", strconv.FormatInt(env.Repro.Epoch.Unix(), 10),
		"-root-mode", fmt.Sprintf("%o", root.Perm()), "-noI", // what fixSquashfsRoot puts right is an inode table that is not compressed
	}
	given := slices.Contains(spec.MkfsOptions, "-comp")
	switch {
	case spec.Compression == "uncompressed":
		args = append(args, "-noI", "-noId", "-noD", "-noF", "-noX")
	case spec.Compression != "" && !given:
		args = append(args, "-comp", spec.Compression)
	case !given:
		args = append(args, "-comp", "zstd")
		if !slices.Contains(spec.MkfsOptions, "-Xcompression-level") {
			args = append(args, "-Xcompression-level", "3") // the default, 15, takes 25 times longer for a tenth less
		}
	}
	return command.Cmd{
		Name: "mksquashfs", Args: append(args, spec.MkfsOptions...), Stdin: tar, Files: []*os.File{f},
		Env: []string{repro.EpochVariable}, // taken away: it and an option are two answers to one question
	}
}

// forSquashfs returns the tree as squashfs can hold it, and what it can't.
func forSquashfs(tree *layers.Tree) (*layers.Tree, []layers.Note, error) {
	var notes []layers.Note
	changed := map[*layers.Node]*layers.Node{}
	edit := tree.Edit(layers.Timespec{})
	fractions := false
	err := tree.Walk(func(name string, n *layers.Node) error {
		fractions = fractions || n.MTime.Nsec != 0
		fit, texts := squashfs.Fit(n)
		if len(texts) == 0 {
			return nil
		}
		if changed[n] == nil {
			for _, text := range texts {
				notes = append(notes, layers.Note{Path: "/" + name, Text: text})
			}
			changed[n] = fit // so that hard links stay hard links
		}
		return edit.Put(name, changed[n])
	})
	if err != nil {
		return nil, nil, err
	}
	if fractions {
		notes = append(notes, squashfs.WholeSeconds())
	}
	return edit.Tree(), notes, nil
}
