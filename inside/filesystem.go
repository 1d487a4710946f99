package inside

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/ext4"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/helperkernel"
	"github.com/imgbuild/imgbuild/internal/spool"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

func (o *opener) ext(ctx context.Context, p part) (*layers.Tree, error) {
	tree, notes, err := ext4.Read(ctx, p.reader(), p.size)
	o.note("ext file system", notes)
	return tree, err
}

func (o *opener) squashfs(ctx context.Context, p part) (*layers.Tree, error) {
	f, err := o.alone(ctx, p)
	if err != nil {
		return nil, err
	}
	return o.tarFrom(ctx, p.size, func(w io.Writer) error {
		return command.Run(ctx, command.Cmd{Name: "sqfs2tar", Args: []string{"-s", "-r", ".", descriptor}, Files: []*os.File{f}, Stdout: w})
	})
}

// erofs is read by a helper kernel, since its own tool does not extract everything. Without one, that has to do.
func (o *opener) erofs(ctx context.Context, p part) (*layers.Tree, error) {
	return o.kernelOrTool(ctx, p, "erofs", "fsck.erofs extracts neither extended attributes nor hard links, and not the times of directories",
		[]string{"fsck.erofs", "--extract=" + extractTo, "--overwrite", "--preserve", standardInput})
}

// cramfs is read in the same way: its tool fails with devices where the user may not make any.
func (o *opener) cramfs(ctx context.Context, p part) (*layers.Tree, error) {
	return o.kernelOrTool(ctx, p, "cramfs", "fsck.cramfs fails with devices for an ordinary user", []string{"fsck.cramfs", "--extract=" + extractTo, standardInput})
}

// kernelOrTool reads a file system by a helper kernel, or where there is none by a program that extracts it, with what that lacks.
func (o *opener) kernelOrTool(ctx context.Context, p part, kind, lacks string, program []string) (*layers.Tree, error) {
	tree, err := o.kernelTree(ctx, p, kind)
	if none := (*helperkernel.UnavailableError)(nil); !errors.As(err, &none) {
		return tree, err
	}
	o.note(kind, []layers.Note{{Path: "/", Text: lacks + ": " + err.Error()}})
	return o.extracted(ctx, p, program)
}

// fat shows a FAT file system, which has no owners, as the superuser's.
func (o *opener) fat(ctx context.Context, p part) (*layers.Tree, error) {
	// mcopy finds nothing wrong with a file system that has no files but fails.
	script := `mkdir "$1"; [ -z "$(mdir -b -a -i "$2" ::/)" ] || mcopy -s -m -n -i "$2" "::/*" "$1"`
	if _, err := command.Find("mcopy"); err != nil {
		return nil, err
	}
	tree, err := o.extracted(ctx, p, []string{"sh", "-c", script, "sh", extractTo, standardInput})
	if err != nil {
		return nil, err
	}
	edit := tree.Edit(layers.Timespec{})
	err = tree.Walk(func(name string, n *layers.Node) error {
		c := *n
		c.UID, c.GID, c.Xattrs, c.Mode = 0, 0, nil, n.Type()|0o755
		if name == "." {
			c.MTime = layers.Timespec{}
		}
		return edit.Put(name, &c)
	})
	return edit.Tree(), err
}

// fatLabel reads the label in the first sector: at byte 43, or 71 for FAT32.
func fatLabel(r io.ReaderAt) string {
	sector := make([]byte, 512)
	if _, err := r.ReadAt(sector, 0); err != nil {
		return ""
	}
	label := sector[43:54]
	if string(sector[82:87]) == "FAT32" {
		label = sector[71:82]
	}
	if text := strings.TrimSpace(string(label)); text != "NO NAME" {
		return text
	}
	return ""
}

// What a program that extracts finds: the image and the directory to make.
const (
	standardInput = "/proc/self/fd/0"
	scratchInside = "/run/imgbuild/inside"
	extractTo     = scratchInside + "/tree"
)

// extracted has a program write the files into a directory, and keeps them in one file without a name. The program may write nowhere else, whatever names a
// stranger's image has.
func (o *opener) extracted(ctx context.Context, p part, program []string) (_ *layers.Tree, err error) {
	if _, err := command.Find(program[0]); err != nil {
		return nil, err
	}
	f, err := o.alone(ctx, p)
	if err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp(o.TempDir, "imgbuild-inside-")
	if err != nil {
		return nil, fmt.Errorf("making a temporary directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	err = sandbox.Run(ctx, sandbox.Spec{
		Root: "/", ReadOnlyRoot: true, NoNetwork: true, Args: program, Stdin: f, Log: o.Log, Env: []string{"MTOOLS_SKIP_CHECK=1", "TZ=UTC"},
		Binds: []sandbox.Bind{{Source: scratch, Target: scratchInside}},
	})
	if err != nil {
		return nil, err
	}
	tree, notes, err := layers.ScanDir(ctx, filepath.Join(scratch, "tree"), layers.ScanOptions{KeepVolatile: true})
	if err != nil {
		return nil, err
	}
	o.note("image", notes)
	return o.tarFrom(ctx, p.size, func(w io.Writer) error { return layers.WriteTar(ctx, w, tree, layers.TarOptions{Sparse: true}) })
}

// kernelTree has a helper kernel mount the file system and write a tar of it.
func (o *opener) kernelTree(ctx context.Context, p part, kind string) (*layers.Tree, error) {
	out, err := spool.New(o.TempDir)
	if err != nil {
		return nil, fmt.Errorf("making a temporary file: %w", err)
	}
	o.keep(out)
	if err := out.Truncate(max(4*p.size, 1<<30)); err != nil { // compressed files are larger outside
		return nil, fmt.Errorf("making a temporary file: %w", err)
	}
	options := map[string]string{"reiserfs": "ro,user_xattr,acl", "xfs": "ro,norecovery,nouuid"}[kind]
	if options == "" {
		options = "ro"
	}
	said, err := o.kernelRun(ctx, p, volume{
		name: "reading the " + kind + " file system",
		script: fmt.Sprintf(`mkdir /tmp/root
mount -t %s -o %s $disk1 /tmp/root
tar -c --totals --format=posix --numeric-owner --sparse --xattrs '--xattrs-include=*' --no-acls --warning=no-file-ignored -C /tmp/root -f $disk2 . 2>&1
umount /tmp/root
`, kind, options),
		programs: []string{"tar", "mkdir", "mount", "umount"}, modules: []string{kind},
	}, helperkernel.Disk{File: out})
	if err != nil {
		return nil, err
	}
	total := regexp.MustCompile(`Total bytes written: (\d+)`).FindStringSubmatch(said)
	if total == nil {
		return nil, fmt.Errorf("reading the %s file system: tar did not say how much it wrote: %s", kind, said)
	}
	length, err := strconv.ParseInt(total[1], 10, 64)
	if err != nil {
		return nil, err
	}
	tree, err := readTar(ctx, io.NewSectionReader(out, 0, length))
	if err != nil || kind != "xfs" {
		return tree, err
	}
	return withoutXFSLists(tree)
}

// withoutXFSLists drops what xfs shows of access control lists a second time.
func withoutXFSLists(tree *layers.Tree) (*layers.Tree, error) {
	edit := tree.Edit(layers.Timespec{})
	done := map[*layers.Node]*layers.Node{}
	err := tree.Walk(func(name string, n *layers.Node) error {
		if done[n] == nil {
			c := *n
			c.Xattrs = nil
			for _, x := range n.Xattrs {
				if !strings.HasPrefix(x.Name, "trusted.SGI_ACL") {
					c.Xattrs = append(c.Xattrs, x)
				}
			}
			done[n] = &c
		}
		return edit.Put(name, done[n])
	})
	return edit.Tree(), err
}
