package filesystem

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/helperkernel"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
)

// xfs, btrfs and reiserfs are written by a helper kernel: the tree goes to it as a tar on a second disk, which GNU tar extracts there.

// extract unpacks the tar on the second disk into the directory $root. Access control lists come as plain extended attributes.
const extract = `tar -x -f $disk2 -b 2048 -C "$root" -p --warning=no-timestamp --numeric-owner --same-owner --xattrs '--xattrs-include=*' --no-acls --no-selinux --delay-directory-restore
`

// settle brings all of the file system that is mounted at $root onto its disk. Only here do programs learn that this machine could not write what was in
// the helper kernel's memory; unmounting tells nobody.
const settle = `sync -f "$root"
ls "$root" >/dev/null
`

// kernelTools are the programs that both scripts use.
func kernelTools() []string { return []string{"tar", "mkdir", "mount", "umount", "sync", "ls"} }

const (
	minXFS = 300 << 20 // mkfs.xfs makes nothing smaller
	minBtr = 256 << 20
	minRei = 34 << 20 // the journal alone takes 32 MiB

	leastBtrfs = 109 << 20 // mkfs.btrfs makes nothing smaller
)

func checkXFS(spec Spec) error {
	if len(spec.Label) > 12 {
		return fmt.Errorf("the label %q has %d bytes; xfs file systems allow 12", spec.Label, len(spec.Label))
	}
	return checkWords(spec.MkfsOptions)
}

// checkWords refuses what is no option or value of one.
func checkWords(words []string) error {
	for _, word := range words {
		if word == "" || strings.ContainsAny(word, "\x00\n") || strings.HasPrefix(word, "/") {
			return fmt.Errorf("%q is no mkfs option", word)
		}
	}
	return nil
}

// estimate is what the content of a tree takes, without the cost of the file system itself: data in whole blocks of 4 KiB, and
// perEntry bytes for every inode and its name.
func estimate(tree *layers.Tree, perEntry int64) int64 {
	const block = 4096
	total := int64(0)
	seen := map[*layers.Node]struct{}{}
	// The callback returns no error, and so does Walk.
	_ = tree.Walk(func(name string, n *layers.Node) error {
		total += int64(len(name)) / 4 // most of a name's length is that of its directories
		if _, ok := seen[n]; ok && !n.IsDir() {
			return nil
		}
		seen[n] = struct{}{}
		total += perEntry + (n.DataSize()+block-1)/block*block + int64(len(n.Target)) + int64(len(n.Data))*block
		for _, x := range n.Xattrs {
			total += int64(len(x.Name) + len(x.Value))
		}
		return nil
	})
	return total
}

// sizeXFS adds what mkfs.xfs takes for itself to what the tree takes: the log, and 2 to 4 of a hundred blocks that are kept for the tables of
// the allocation groups.
func sizeXFS(ctx context.Context, env Env, tree *layers.Tree, spec Spec) (int64, error) {
	need := estimate(tree, 700) + spec.Free
	need += need/50 + 8<<20
	log, err := xfsLog(ctx, alignUp(need+need/25+128<<20), env, spec)
	if err != nil {
		return 0, err
	}
	return max((need+log)*104/100, minXFS), nil
}

// xfsLog returns how many bytes the log takes of an xfs file system of the given size: mkfs.xfs prints what it would make.
func xfsLog(ctx context.Context, size int64, env Env, spec Spec) (int64, error) {
	f, err := memoryFile("size", nil)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := f.Truncate(max(size, minXFS)); err != nil {
		return 0, err
	}
	args := append([]string{"-N", "-f", "-m", "uuid=" + env.uuid(spec)}, spec.MkfsOptions...)
	out, err := command.Output(ctx, command.Cmd{Name: "mkfs.xfs", Args: append(args, "/proc/self/fd/3"), Files: []*os.File{f}})
	if err != nil {
		return 0, err
	}
	// log      =internal log           bsize=4096   blocks=16384, version=2
	m := regexp.MustCompile(`(?m)^log .*bsize=(\d+) +blocks=(\d+)`).FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("mkfs.xfs -N does not tell how large the log is: %q", out)
	}
	blockSize, err := strconv.ParseInt(string(m[1]), 10, 32)
	if err != nil {
		return 0, err
	}
	blocks, err := strconv.ParseInt(string(m[2]), 10, 40)
	return blockSize * blocks, err
}

func writeXFS(ctx context.Context, env Env, f *os.File, offset, size int64, tree *layers.Tree, spec Spec) error {
	if size < minXFS {
		return &TooSmallError{Type: spec.Type, Size: size, Need: minXFS}
	}
	mkfs := []string{"mkfs.xfs", "-q", "-f", "-m", "uuid=" + env.uuid(spec)}
	if spec.Label != "" {
		mkfs = append(mkfs, "-L", spec.Label)
	}
	mkfs = append(mkfs, spec.MkfsOptions...)
	script := shellLine(mkfs) + ` $disk1
root=/tmp/root
mkdir $root
mount -t xfs -o nouuid,` + spec.mountOptions() + ` $disk1 $root
for retries in /sys/fs/xfs/*/error/metadata/*/max_retries; do echo 0 >$retries; done
` + spec.chattr() + extract + settle + `umount $root
sync $disk1
`
	return runKernel(ctx, env, f, offset, size, tree, spec, script, append(spec.chattrTool(), "mkfs.xfs"))
}

func checkReiserfs(spec Spec) error {
	if len(spec.Label) > 16 {
		return fmt.Errorf("the label %q has %d bytes; reiserfs file systems allow 16", spec.Label, len(spec.Label))
	}
	// mkreiserfs takes another one for what it does not know.
	if hash := last(given(spec.MkfsOptions, "-h", "--hash")); hash != "" && hash != "r5" && hash != "tea" && hash != "rupasov" {
		return fmt.Errorf("%q is no hash of reiserfs; it has r5, tea and rupasov", hash)
	}
	return checkWords(spec.MkfsOptions)
}

// sizeReiserfs adds the journal, a block of bitmap for each 128 MiB, and what the tree of the file system takes for itself.
func sizeReiserfs(_ context.Context, _ Env, tree *layers.Tree, spec Spec) (int64, error) {
	need := estimate(tree, 250) + spec.Free
	return max(need+need/16+minRei, minRei), nil
}

// reiserfsArgs are the arguments for mkreiserfs, but for the disk.
func reiserfsArgs(env Env, spec Spec) []string {
	args := []string{"-q", "-f", "-f", "-u", env.uuid(spec)}
	if spec.Label != "" {
		args = append(args, "-l", spec.Label)
	}
	return append(args, spec.MkfsOptions...)
}

func writeReiserfs(ctx context.Context, env Env, f *os.File, offset, size int64, tree *layers.Tree, spec Spec) error {
	if size < minRei {
		return &TooSmallError{Type: spec.Type, Size: size, Need: minRei}
	}
	script := "mkreiserfs " + shellLine(reiserfsArgs(env, spec)) + ` $disk1
root=/tmp/root
mkdir $root
mount -t reiserfs -o noatime,user_xattr,acl $disk1 $root
` + extract + settle + `umount $root
sync $disk1
`
	notes, err := reiserfsNotes(tree)
	if err != nil {
		return err
	}
	env.report("reiserfs", notes)
	return runKernel(ctx, env, f, offset, size, tree, spec, script, []string{"mkreiserfs"})
}

// chattr is the line of a script that sets attributes of the top directory, which all that is made in it later inherits.
func (s Spec) chattr() string {
	if s.Attributes == "" {
		return ""
	}
	return "chattr +" + s.Attributes + " \"$root\"\n"
}

// chattrTool is the program that chattr takes.
func (s Spec) chattrTool() []string {
	if s.Attributes == "" {
		return nil
	}
	return []string{"chattr"}
}

// mountOptions are those that the helper kernel mounts the new file system with: of the spec's, those that change what is written.
func (s Spec) mountOptions() string {
	options := "noatime"
	for option := range strings.SplitSeq(s.MountOptions, ",") {
		if s.Type == "btrfs" && regexp.MustCompile(`^compress(-force)?(=[a-z]+(:[0-9]+)?)?$`).MatchString(option) {
			options += "," + option
		}
	}
	return options
}

// runKernel writes the tree to a tar and runs the script with the place of the file system as its first disk and the tar as its second.
func runKernel(ctx context.Context, env Env, f *os.File, offset, size int64, tree *layers.Tree, spec Spec, script string, tools []string) (err error) {
	task := env.Progress.Start("writing "+spec.Type, tree.Stats().Data, progress.Bytes)
	defer func() { task.Done(err) }()
	tar, err := tarFile(ctx, env, tree, task)
	if err != nil {
		return err
	}
	defer tar.Close()
	output, err := helperkernel.Run(ctx, helperkernel.Spec{
		Name:     "making the " + spec.Type + " file system",
		Script:   script,
		Disks:    []helperkernel.Disk{{File: f, Offset: offset, Size: size}, {File: tar, ReadOnly: true}},
		Programs: append(kernelTools(), tools...),
		Modules:  []string{spec.Type},
		Kind:     env.HelperKernel,
		Kernels:  kernels(tree),
		Log:      env.Log,
	})
	if err != nil {
		if full := hostFull(f); full != nil {
			env.Log.Debug("the helper kernel has failed", "error", err)
			return full
		}
		return noSpace(ctx, env, tree, spec, size, err)
	}
	env.report(spec.Type, tarNotes(output))
	return nil
}

// hostFull says that this machine has no space left for the image, which the helper kernel takes for a disk that is broken or full.
func hostFull(f *os.File) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return nil
	}
	const least = 4 << 20 // what a last large write may have left
	if free := int64(fs.Bavail) * fs.Bsize; free >= least {
		return nil
	}
	return fmt.Errorf("no space is left in %s; make room there, or choose a directory on a larger disk", filepath.Dir(f.Name()))
}

// tarFile writes the tree as a tar to a file without a name.
func tarFile(ctx context.Context, env Env, tree *layers.Tree, task progress.Task) (*os.File, error) {
	f, err := temporaryFile(env.Workdir)
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	err = layers.WriteTar(ctx, w, tree, layers.TarOptions{Sparse: true, AnyOrder: true, Progress: task.Add})
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("writing the tree as a tar for the helper kernel: %w", err)
	}
	return f, nil
}

// temporaryFile makes a file that has no name any more.
func temporaryFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".imgbuild-tree-")
	if err != nil {
		return nil, fmt.Errorf("making a temporary file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("making a temporary file: %w", err)
	}
	return f, nil
}

// shellLine quotes words for a shell.
func shellLine(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = shellWord(w)
	}
	return strings.Join(quoted, " ")
}

func shellWord(word string) string {
	if regexp.MustCompile(`^[A-Za-z0-9_./=:,@%+^-]+$`).MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
